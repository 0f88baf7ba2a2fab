// Critical sections: user-mode locks that name their owner by thread id. Source: winnt.h
// (RTL_CRITICAL_SECTION), public PDBs; the bits of LockCount since Windows Server 2003 SP1: Microsoft,
// "Displaying a Critical Section".
#pragma once

#include <optional>

#include "nt/object.h"

namespace unhang::nt {

struct RTL_CRITICAL_SECTION {
  static constexpr TypeName kType{"_RTL_CRITICAL_SECTION"};
  static inline const Member<VirtAddr> DebugInfo{kType, "DebugInfo"};
  static inline const Member<i32> LockCount{kType, "LockCount"};
  static inline const Member<i32> RecursionCount{kType, "RecursionCount"};
  static inline const Member<u64> OwningThread{kType, "OwningThread"};
  static inline const Member<u64> LockSemaphore{kType, "LockSemaphore"};
  static inline const Member<u64> SpinCount{kType, "SpinCount"};
};

struct RTL_CRITICAL_SECTION_DEBUG {
  static constexpr TypeName kType{"_RTL_CRITICAL_SECTION_DEBUG"};
  static inline const Member<VirtAddr> CriticalSection{kType, "CriticalSection"};
  static inline const Member<ListEntry> ProcessLocksList{kType, "ProcessLocksList"};
  static inline const Member<u32> ContentionCount{kType, "ContentionCount"};
};

struct CriticalSection {
  VirtAddr address{}, debug_info{};
  i32 lock_count = -1, recursion_count = 0;
  u64 owner_tid = 0;  // 0: free
  u64 semaphore = 0, spin_count = 0;
  u32 contention = 0;
  bool debug_agrees = false;  // its debug block points back: this is a critical section beyond doubt
  bool locked() const { return (lock_count & 1) == 0; }
  bool waiter_woken() const { return (lock_count & 2) == 0; }
  u32 waiters() const { return static_cast<u32>(-1 - lock_count) >> 2; }
  // The members can be those of one critical section.
  bool plausible() const;
};

// Errors: those of reading.
Result<CriticalSection> read_critical_section(const Target& target, const Source<VirtAddr>& space,
                                              VirtAddr va);
// The same of 32-bit code in a WOW64 process.
Result<CriticalSection> read_critical_section32(const Source<VirtAddr>& space, VirtAddr va);

}  // namespace unhang::nt
