// Patterns with * and ?, ignoring case, as WinDbg's x and lm take them.
#pragma once

#include <string_view>

namespace unhang::app {

bool wildcard_match(std::string_view pattern, std::string_view text);

}  // namespace unhang::app
