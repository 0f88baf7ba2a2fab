// I/O requests anywhere in memory, as WinDbg's !irpfind finds them: paging requests and those that drivers
// make are on no thread's list. By their shape, not by their pool tag, and with a proof: an IRP says where
// its current stack location lies, so it says where it lies itself, and that must be where it was found.
#pragma once

#include <functional>
#include <vector>

#include "dump/page_scan.h"
#include "nt/target.h"

namespace unhang::nt {

struct IrpScan {
  std::vector<VirtAddr> irps;  // that have been sent and have not come back, in ascending order
  u64 bytes_scanned = 0, bytes_total = 0;
};

// Whether a page holds what may be one. Errors: no_member, implausible (a layout that is none).
Result<std::function<bool(const u8* page)>> irp_page_test(const Target& target);

// One that lies across a page boundary in its first part is not seen. Of a dump with blocks of memory
// (triage): those in the blocks.
IrpScan find_irps(const Target& target, const dump::ScanOptions& options);

}  // namespace unhang::nt
