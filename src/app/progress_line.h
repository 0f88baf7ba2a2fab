// A line on the terminal for what takes longer than a second.
#pragma once

#include "base/progress.h"

namespace unhang::app {

// Writes to standard error; empty when that is no terminal.
Progress progress_line();

}  // namespace unhang::app
