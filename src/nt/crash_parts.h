// What makes a Windows crash dump out of another: the header's fields and the places in memory where WinDbg
// looks for the state of each processor.
#pragma once

#include "dump/writers/writers.h"
#include "nt/target.h"

namespace unhang::nt {

struct CrashParts {
  dump::CrashHeader header;
  std::vector<dump::Patch> patches;
  // The dump's pages that Windows owns.
  std::vector<dump::PhysRange> ranges;
  // Processors whose CONTEXT was filled in, and whether it holds the XMM registers.
  u32 contexts = 0;
  bool xmm = false;
  std::optional<u32> chosen_cpu;  // whose CONTEXT is in the header
  u64 left_out = 0;               // bytes of the dump that Windows does not own: ROMs, video memory
  std::vector<Gap> gaps;
};

// cpu: the processor that the debugger shall stand on; by default the first that is not idle. Errors:
// unsupported (a dump without physical memory, no such processor).
Result<CrashParts> crash_parts(const Target& target, std::optional<u32> cpu);

}  // namespace unhang::nt
