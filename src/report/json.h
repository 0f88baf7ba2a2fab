// JSON rendering: addresses become "0x..." strings, text is valid UTF-8 whatever the dump held.
#pragma once

#include <string>

#include "base/node.h"

namespace unhang::report {

std::string to_json(const Node& node);

}  // namespace unhang::report
