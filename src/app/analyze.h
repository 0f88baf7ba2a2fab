// The analysis as a step of another command.
#pragma once

#include "app/command.h"

namespace unhang::app {

// What `unhang analyze DUMP` does: prints the report, returns an Exit.
int analyze(const CommonOptions& common);

}  // namespace unhang::app
