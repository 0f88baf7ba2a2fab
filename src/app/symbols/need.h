// Which modules of a dump want symbols: the kernel's, those on stacks, those of every process.
#pragma once

#include <string>
#include <vector>

#include "app/session.h"

namespace unhang::app {

struct NeedOptions {
  bool whole_kernel = true;     // every module of the kernel, else those on stacks
  bool user_on_stacks = false;  // modules of processes on stacks
  bool whole_user = false;      // every module of every process
};

// One module: in many processes it is one still.
struct NeededModule {
  const nt::Module* module = nullptr;  // lives as long as the session
  bool user = false;
  u64 threads = 0;    // whose stacks it is on
  u64 processes = 0;  // that have it loaded, of those that were looked at; 0 for the kernel's
};

// By address, the kernel first; symbols are looked up for each.
std::vector<NeededModule> needed_modules(Session& session, const NeedOptions& options);

}  // namespace unhang::app
