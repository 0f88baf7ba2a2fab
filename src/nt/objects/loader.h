// Lists of loaded images: LDR_DATA_TABLE_ENTRY, for the kernel and (through the PEB) for a process.
#pragma once

#include "nt/module.h"
#include "nt/object.h"

namespace unhang::nt {

// The kernel's entries are _KLDR_DATA_TABLE_ENTRY; their first members lie where _LDR_DATA_TABLE_ENTRY has
// them, on every build with a public PDB.
struct LDR_DATA_TABLE_ENTRY {
  static constexpr TypeName kType{"_LDR_DATA_TABLE_ENTRY"};
  static inline const Member<ListEntry> InLoadOrderLinks{kType, "InLoadOrderLinks"};
  static inline const Member<VirtAddr> DllBase{kType, kRequired, "DllBase"};
  static inline const Member<u32> SizeOfImage{kType, "SizeOfImage"};
  static inline const Member<UnicodeString> FullDllName{kType, "FullDllName"};
  static inline const Member<UnicodeString> BaseDllName{kType, "BaseDllName"};
  static inline const Member<u32> TimeDateStamp{kType, "TimeDateStamp"};
};

struct KLDR_DATA_TABLE_ENTRY {
  static constexpr TypeName kType{"_KLDR_DATA_TABLE_ENTRY"};
  static inline const Member<u32> TimeDateStamp{kType, "TimeDateStamp"};
};

struct PEB {
  static constexpr TypeName kType{"_PEB"};
  static inline const Member<VirtAddr> Ldr{kType, kRequired, "Ldr"};
  static inline const Member<VirtAddr> ImageBaseAddress{kType, "ImageBaseAddress"};
  static inline const Member<VirtAddr> ProcessParameters{kType, "ProcessParameters"};
  static inline const Member<VirtAddr> LoaderLock{kType, "LoaderLock"};
  static inline const Member<VirtAddr> FastPebLock{kType, "FastPebLock"};
  static inline const Member<u32> SessionId{kType, "SessionId"};
};

struct PEB_LDR_DATA {
  static constexpr TypeName kType{"_PEB_LDR_DATA"};
  static inline const Member<ListEntry> InLoadOrderModuleList{kType, "InLoadOrderModuleList"};
};

struct EWOW64PROCESS {
  static constexpr TypeName kType{"_EWOW64PROCESS"};
  static inline const Member<VirtAddr> Peb{kType, "Peb"};
};

struct RTL_USER_PROCESS_PARAMETERS {
  static constexpr TypeName kType{"_RTL_USER_PROCESS_PARAMETERS"};
  static inline const Member<UnicodeString> ImagePathName{kType, "ImagePathName"};
  static inline const Member<UnicodeString> CommandLine{kType, "CommandLine"};
};

struct LoadedModules {
  std::vector<std::unique_ptr<Module>> modules;
  std::vector<Gap> gaps;
};

// PsLoadedModuleList. The kernel itself is among them where the list is whole.
LoadedModules read_kernel_modules(const Target& target);

// The modules of a process from its PEB; none when the PEB is null or paged out (a gap says so).
LoadedModules read_user_modules(const Target& target, const Source<VirtAddr>& space, VirtAddr peb);

// The modules of 32-bit code in a process, from its 32-bit PEB; time stamps come from the list as well.
LoadedModules read_user_modules32(const Target& target, const Source<VirtAddr>& space, VirtAddr peb32);

// The 32-bit PEB that _EPROCESS.Wow64Process leads to: an _EWOW64PROCESS in the kernel, the PEB itself up to
// Windows 8.1. Null when it cannot be read.
VirtAddr peb32_of(const Target& target, VirtAddr wow64);

}  // namespace unhang::nt
