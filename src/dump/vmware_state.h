// What VMware saves of a virtual machine beside its memory: .vmss (suspended) and .vmsn (snapshot) files.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "dump/cpu_state.h"

namespace unhang::dump {

struct VmwareState {
  // A piece of guest memory, in pages: where it lies in the memory image, where in the guest.
  struct Region {
    u64 page = 0;
    u64 ppn = 0;
    u64 size = 0;
  };
  std::vector<Region> regions;  // empty: memory has no holes
  // The memory image when it is inside of this file; size 0: it is a .vmem file of its own.
  u64 memory_offset = 0, memory_size = 0;
  std::vector<CpuState> cpus;
  bool partial = false;  // its magic says that it is not whole
  std::vector<Gap> gaps;
};

bool is_vmware_state(ByteView bytes);

// Errors: bad_file (truncated, regions that cannot be), unsupported (32-bit form, compressed memory).
Result<VmwareState> read_vmware_state(ByteView bytes);

}  // namespace unhang::dump
