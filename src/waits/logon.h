// Which processes logon and the desktop need, by their names (Windows Internals, "Logon").
#pragma once

#include <string>

namespace unhang::waits {

// Without these nobody logs on.
bool is_on_logon_path(const std::string& process);

// Those, and the ones of the desktop.
bool is_logon_critical(const std::string& process);

}  // namespace unhang::waits
