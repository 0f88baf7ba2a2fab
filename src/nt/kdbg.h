// KDDEBUGGER_DATA64, "KDBG": what the kernel tells a debugger about itself - addresses of its lists and,
// since Windows 7, offsets of a few members. Layout: public header wdbgexts.h; fields are only ever appended.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "dump/dump_file.h"
#include "nt/module.h"

namespace unhang::nt {

// ntoskrnl is at most 17 MiB (Windows 11), its base at most 2 MiB further down with large pages.
inline constexpr u64 kMostKernelImage = u64{32} << 20;

class Kdbg {
 public:
  Kdbg(std::vector<u8> bytes, VirtAddr va, std::string how)
      : bytes_(std::move(bytes)), va_(va), how_(std::move(how)) {}

  // Field offsets. Those that hold the address of a kernel variable:
  enum Field : u32 {
    kKernBase = 0x18,
    kPsLoadedModuleList = 0x48,
    kPsActiveProcessHead = 0x50,
    kPspCidTable = 0x58,
    kExpSystemResourcesList = 0x60,
    kKeTimeIncrement = 0x78,
    kKiBugcheckData = 0x88,
    kObpRootDirectoryObject = 0x98,
    kObpTypeObjectType = 0xA0,
    kMmPfnDatabase = 0xC0,
    kMmNumberOfPhysicalPages = 0xF8,
    kMmTotalCommitLimit = 0x148,
    kMmTotalCommittedPages = 0x150,
    kMmAvailablePages = 0x1A8,
    kMmResidentAvailablePages = 0x1B0,
    kNtBuildLab = 0x208,
    kKiProcessorBlock = 0x218,
    kMmPhysicalMemoryBlock = 0x270,
  };

  // The address in a field; null when it is absent or not a kernel address.
  VirtAddr pointer(u32 field) const;
  // A member offset or structure size in a field; 0 when absent.
  u16 number(u32 field) const { return view().at<u16>(field); }
  ByteView view() const { return ByteView(bytes_.data(), bytes_.size()); }
  VirtAddr va() const { return va_; }
  // "symbol KdDebuggerDataBlock, decoded", "scan of nt's data".
  const std::string& how() const { return how_; }

 private:
  std::vector<u8> bytes_;
  VirtAddr va_{};
  std::string how_;
};

// Looks for it: the copy in a triage dump, the header's or the symbol's address (plain, or decoded as Windows
// 8 and later keep it), the decoded copy that a VMCOREINFO note points to, a scan of nt's data for it, plain
// or encoded: what it says of the kernel's base is known, and undoes the encoding without symbols.
std::optional<Kdbg> find_kdbg(const dump::DumpFile& dump, const Source<VirtAddr>& kernel, const Module& nt);

// The base of the kernel around an address, by the KDBG in it: for dumps that lack the page of its header.
std::optional<VirtAddr> kernel_base_by_kdbg(const Source<VirtAddr>& kernel, VirtAddr inside);

}  // namespace unhang::nt
