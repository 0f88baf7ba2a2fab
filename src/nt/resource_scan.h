// The kernel's list of resources without its address: real kernels since Windows 8 encode the block that
// states it, and only symbols decode that.
#pragma once

#include <vector>

#include "nt/target.h"

namespace unhang::nt {

// A resource on the list. nt's own resources lie in its writable data, so the list passes through there:
// every pair of links in it whose ring consists of resources is a candidate, and one with owners or waiters
// that exist is believed. Null when there is none: then no resource in the ring that nt takes part in is
// held.
VirtAddr find_listed_resource(const Target& target);

}  // namespace unhang::nt
