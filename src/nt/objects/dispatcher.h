// Dispatcher objects: what a thread can wait for. Events, mutants, semaphores, queues, timers, gates, threads
// and processes all begin with a DISPATCHER_HEADER.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "nt/object.h"
#include "nt/walk.h"

namespace unhang::nt {

struct DISPATCHER_HEADER {
  static constexpr TypeName kType{"_DISPATCHER_HEADER"};
  static inline const Member<u8> Type{kType, kRequired, "Type"};
  static inline const Member<u8> Size{kType, "Size"};
  static inline const Member<i32> SignalState{kType, kRequired, "SignalState"};
  static inline const Member<ListEntry> WaitListHead{kType, kRequired, "WaitListHead"};
};

struct KWAIT_BLOCK {
  static constexpr TypeName kType{"_KWAIT_BLOCK"};
  static inline const Member<ListEntry> WaitListEntry{kType, "WaitListEntry"};
  static inline const Member<u8> WaitType{kType, "WaitType"};
  static inline const Member<u8> BlockState{kType, "BlockState"};
  static inline const Member<VirtAddr> Thread{kType, kRequired, "Thread"};
  static inline const Member<VirtAddr> Object{kType, kRequired, "Object"};
  // Windows 7 links the blocks of one wait; later builds have an array of KTHREAD.WaitBlockCount.
  static inline const Member<VirtAddr> NextWaitBlock{kType, "NextWaitBlock"};
};

struct KMUTANT {
  static constexpr TypeName kType{"_KMUTANT"};
  static inline const Member<ListEntry> MutantListEntry{kType, "MutantListEntry"};
  static inline const Member<VirtAddr> OwnerThread{kType, "OwnerThread"};
  static inline const Member<u8> Abandoned{kType, "Abandoned"};
};

struct KSEMAPHORE {
  static constexpr TypeName kType{"_KSEMAPHORE"};
  static inline const Member<i32> Limit{kType, "Limit"};
};

struct KQUEUE {
  static constexpr TypeName kType{"_KQUEUE"};
  static inline const Member<ListEntry> EntryListHead{kType, "EntryListHead"};
  static inline const Member<u32> CurrentCount{kType, "CurrentCount"};
  static inline const Member<u32> MaximumCount{kType, "MaximumCount"};
  static inline const Member<ListEntry> ThreadListHead{kType, "ThreadListHead"};
};

struct KTIMER {
  static constexpr TypeName kType{"_KTIMER"};
  static inline const Member<u64> DueTime{kType, "DueTime"};
};

// KOBJECTS, the values of DISPATCHER_HEADER.Type (public PDBs; the same numbers on every build).
enum class DispatcherType : u8 {
  notification_event = 0,
  synchronization_event = 1,
  mutant = 2,
  process = 3,
  queue = 4,
  semaphore = 5,
  thread = 6,
  gate = 7,
  notification_timer = 8,
  synchronization_timer = 9,
  priority_queue = 21,  // Windows 8 and later; 21 is EventPairObject before
  notification_timer2 = 24,
  synchronization_timer2 = 25,
  unknown = 0x7f,
};

struct Dispatcher {
  VirtAddr address{};
  DispatcherType type = DispatcherType::unknown;
  i32 signal_state = 0;
  // Mutants.
  VirtAddr owner_thread{};
  bool abandoned = false;
  // Semaphores.
  i32 limit = 0;
  // Timers: 100 ns of interrupt time.
  u64 due_time = 0;
  // Queues.
  u32 current_count = 0, maximum_count = 0;
};

// Errors: those of reading; implausible when the type byte is no dispatcher type.
Result<Dispatcher> read_dispatcher(const Target& target, VirtAddr va);

// As WinDbg's !thread prints it: "SynchronizationEvent", "Mutant - owning thread ...".
std::string_view name(DispatcherType type);

// Threads that wait for an object: the Thread of every KWAIT_BLOCK on its list. `link` is where the object's
// list head lies.
struct Waiters {
  std::vector<VirtAddr> threads;
  Walk walk;
};
Waiters read_waiters(const Target& target, VirtAddr object);

// Mutants that a thread owns: KTHREAD.MutantListHead.
Walk owned_mutants(const Target& target, VirtAddr thread, std::vector<VirtAddr>& mutants);

}  // namespace unhang::nt
