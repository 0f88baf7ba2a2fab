// How much memory is left: counters of the memory manager and of the pools, by tag.
// Facts: public PDBs (_MI_PARTITION, _POOL_TRACKER_TABLE); the variables' names are those of WinDbg's !vm and
// !poolused. Without the kernel's symbols nobody knows where they lie, and there are none.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nt/object.h"

namespace unhang::nt {

struct PoolTag {
  std::string tag;  // four characters, as pools show them
  u64 nonpaged_bytes = 0, paged_bytes = 0;
  u64 nonpaged_count = 0, paged_count = 0;  // allocations that were not freed
};

struct MemoryCounters {
  // Pages of 4 KiB.
  std::optional<u64> available, physical, committed, commit_limit, resident_available;
  std::vector<PoolTag> tags;  // those with the most bytes first
  u64 nonpaged_bytes = 0, paged_bytes = 0;
  std::vector<Gap> gaps;
  bool any() const { return available || committed || !tags.empty(); }
};

MemoryCounters read_memory_counters(const Target& target);

}  // namespace unhang::nt
