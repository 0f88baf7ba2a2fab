// Threads that wait for free memory: what the rules about memory and about storage both look at.
#pragma once

#include "diagnose/rule.h"

namespace unhang::diagnose {

// Those that have waited for free pages or for pool for a second or more.
std::vector<VirtAddr> memory_waiters(const Context& context);

}  // namespace unhang::diagnose
