// DUMP_HEADER64, the first 8 KiB of a Windows crash dump and of the VMCOREINFO note that the guest driver
// fwcfg64 leaves (FORMATS 3.1). 32-bit headers are recognised to be refused by name.
#pragma once

#include "base/bytes.h"
#include "dump/dump_file.h"

namespace unhang::dump {

inline constexpr u64 kHeader64Size = 0x2000;
inline constexpr u32 kMachineAmd64 = 0x8664;
inline constexpr u32 kMachineArm64 = 0xAA64;
inline constexpr u32 kMachineI386 = 0x14C;

enum DumpType : u32 {
  kFull = 1,
  kKernelSummary = 2,
  kHeaderOnly = 3,
  kTriage = 4,
  kBitmapFull = 5,
  kBitmapKernel = 6,
  kAutomatic = 7,
  kKernelMemory = 8,
  kKernelAndUser = 9,
  kComplete = 10,
};

// Errors: bad_file (too short, run table that cannot be).
Result<WindowsHeader> read_windows_header(ByteView bytes);

// The word for the machine, for messages: "x64", "ARM64", "x86", "machine 0x1c4".
std::string machine_name(u32 machine);

}  // namespace unhang::dump
