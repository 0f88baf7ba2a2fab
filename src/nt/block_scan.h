// Objects by their shape, in dumps that hold only blocks of kernel memory (triage dumps): their lists lead
// out of what is there. A shape is accepted only with a second witness: a neighbour's link, an owner that is
// a thread.
#pragma once

#include <vector>

#include "nt/target.h"

namespace unhang::nt {

struct BlockScan {
  std::vector<VirtAddr> resources;  // held or waited for
  std::vector<VirtAddr> irps;
};

// Empty for dumps with physical memory.
BlockScan scan_blocks(const Target& target);

}  // namespace unhang::nt
