// Threads: ETHREAD, with the KTHREAD at its beginning.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nt/object.h"
#include "nt/walk.h"

namespace unhang::nt {

struct KTHREAD {
  static constexpr TypeName kType{"_KTHREAD"};
  static inline const Member<VirtAddr> InitialStack{kType, kRequired, "InitialStack"};
  static inline const Member<VirtAddr> StackLimit{kType, "StackLimit"};
  static inline const Member<VirtAddr> StackBase{kType, kRequired, "StackBase"};
  static inline const Member<VirtAddr> KernelStack{kType, kRequired, "KernelStack"};
  static inline const Member<VirtAddr> TrapFrame{kType, "TrapFrame"};
  static inline const Member<VirtAddr> Process{kType, kRequired, "Process"};
  static inline const Member<VirtAddr> AttachedProcess{kType, kRequired, "ApcState.Process"};
  static inline const Member<VirtAddr> Teb{kType, kRequired, "Teb"};
  static inline const Member<VirtAddr> Win32Thread{kType, "Win32Thread"};
  static inline const Member<VirtAddr> Queue{kType, "Queue"};
  static inline const Member<u8> State{kType, kRequired, "State"};
  static inline const Member<u8> WaitReason{kType, kRequired, "WaitReason"};
  static inline const Member<u8> WaitMode{kType, "WaitMode"};
  static inline const Member<u8> WaitIrql{kType, "WaitIrql"};
  static inline const Member<u8> Alertable{kType, "Alertable"};
  static inline const Member<u32> WaitTime{kType, kRequired, "WaitTime"};
  static inline const Member<VirtAddr> WaitBlockList{kType, kRequired, "WaitBlockList"};
  static inline const Member<u8> WaitBlockCount{kType, "WaitBlockCount"};
  static inline const Member<u8> Priority{kType, "Priority"};
  static inline const Member<u8> BasePriority{kType, "BasePriority"};
  static inline const Member<u8> PriorityDecrement{kType, "PriorityDecrement"};
  static inline const Member<u32> ContextSwitches{kType, "ContextSwitches"};
  static inline const Member<u32> KernelTime{kType, "KernelTime"};
  static inline const Member<u32> UserTime{kType, "UserTime"};
  static inline const Member<u64> CycleTime{kType, "CycleTime"};
  static inline const Member<u8> SuspendCount{kType, "SuspendCount"};
  // With a flag in bit 31 since Windows 8.1: NextProcessorNumber is the number alone.
  static inline const Member<u32> NextProcessor{kType, "NextProcessorNumber", "NextProcessor"};
  static inline const Member<u32> IdealProcessor{kType, "IdealProcessor"};
  static inline const Member<ListEntry> ThreadListEntry{kType, "ThreadListEntry"};
  static inline const Member<ListEntry> MutantListHead{kType, "MutantListHead"};
  static inline const Member<ListEntry> WaitListEntry{kType, "WaitListEntry"};
  static inline const Member<u8> KernelStackResident{kType, "KernelStackResident"};
  static inline const Member<Inside> Timer{kType, "Timer"};
  // AutoBoost's slots: here up to 10.0.18362, inside the ETHREAD since, behind KernelAbEntries in 10.0.26100.
  static inline const Member<Inside> LockEntries{kType, "LockEntries"};
  static inline const Member<VirtAddr> KernelAbEntries{kType, "KernelAbEntries"};
};

struct ETHREAD {
  static constexpr TypeName kType{"_ETHREAD"};
  static inline const Member<AnyInteger> UniqueProcess{kType, "Cid.UniqueProcess"};
  static inline const Member<AnyInteger> UniqueThread{kType, "Cid.UniqueThread"};
  static inline const Member<u64> CreateTime{kType, "CreateTime"};
  static inline const Member<VirtAddr> StartAddress{kType, "StartAddress"};
  static inline const Member<VirtAddr> Win32StartAddress{kType, "Win32StartAddress"};
  static inline const Member<ListEntry> ThreadListEntry{kType, kRequired, "ThreadListEntry"};
  static inline const Member<ListEntry> IrpList{kType, kRequired, "IrpList"};
  static inline const Member<AnyInteger> TopLevelIrp{kType, "TopLevelIrp"};
  static inline const Member<u32> CrossThreadFlags{kType, "CrossThreadFlags"};
  static inline const Member<VirtAddr> ThreadName{kType, "ThreadName"};
  static inline const Member<VirtAddr> KeyedWaitValue{kType, "KeyedWaitValue"};
  static inline const Member<VirtAddr> AlpcMessage{kType, "AlpcMessage"};
  static inline const Member<Inside> AlpcWaitSemaphore{kType, "AlpcWaitSemaphore"};
  static inline const Member<Inside> LockEntries{kType, "LockEntries"};  // see KTHREAD's
};

// KTHREAD_STATE and KWAIT_REASON: the same numbers on every build, new ones appended (public PDBs).
enum class ThreadState : u8 {
  initialized,
  ready,
  running,
  standby,
  terminated,
  waiting,
  transition,
  deferred_ready,
  gate_wait_obsolete,
  waiting_for_process_in_swap,
};
std::string_view name(ThreadState state);        // "Waiting"
std::string_view state_word(ThreadState state);  // as !thread prints it: "WAIT", "RUNNING"
// "WrResource"; "Unknown" beyond the known ones.
std::string_view wait_reason_name(u8 reason);
enum WaitReason : u8 {
  kExecutive = 0,
  kFreePage = 1,
  kPageIn = 2,
  kPoolAllocation = 3,
  kDelayExecution = 4,
  kSuspended = 5,
  kUserRequest = 6,
  kWrExecutive = 7,
  kWrFreePage = 8,
  kWrPageIn = 9,
  kWrPoolAllocation = 10,
  kWrDelayExecution = 11,
  kWrSuspended = 12,
  kWrUserRequest = 13,
  kWrQueue = 15,
  kWrLpcReceive = 16,
  kWrLpcReply = 17,
  kWrVirtualMemory = 18,
  kWrPageOut = 19,
  kWrKeyedEvent = 21,
  kWrTerminated = 22,
  kWrProcessInSwap = 23,
  kWrCpuRateControl = 24,
  kWrCalloutStack = 25,
  kWrKernel = 26,
  kWrResource = 27,
  kWrPushLock = 28,
  kWrMutex = 29,
  kWrQuantumEnd = 30,
  kWrDispatchInt = 31,
  kWrPreempted = 32,
  kWrYieldExecution = 33,
  kWrFastMutex = 34,
  kWrGuardedMutex = 35,
  kWrRundown = 36,
  kWrAlertByThreadId = 37,
  kWrDeferredPreempt = 38,
  kWrPhysicalFault = 39,
  kWrIoRing = 40,
};

struct WaitBlock {
  VirtAddr address{};
  VirtAddr object{};
  u8 wait_type = 0;       // 0 WaitAll, 1 WaitAny
  u8 object_type = 0x7f;  // DISPATCHER_HEADER.Type without its flag; 0x7f: it cannot be read
};

struct Thread {
  VirtAddr address{};
  u64 pid = 0, tid = 0;
  VirtAddr process{};           // KPROCESS that it belongs to
  VirtAddr attached_process{};  // null unless attached to another one
  ThreadState state = ThreadState::initialized;
  u8 wait_reason = 0;
  bool user_mode_wait = false;
  bool stack_resident =
      true;  // false: its kernel stack is in the page file, as of threads that wait in user mode
  bool alertable = false;
  u32 wait_time = 0;             // tick count when the wait began
  std::optional<u32> ticks;      // since then
  std::optional<u64> waited_ms;  // only for waiting threads: for others WaitTime is an old wait's
  int priority = 0, base_priority = 0, priority_decrement = 0;
  u32 context_switches = 0;
  u32 kernel_ticks = 0, user_ticks = 0;
  u32 ideal_processor = 0, next_processor = 0;
  u8 suspend_count = 0;
  VirtAddr teb{}, win32_thread{};
  VirtAddr queue{};  // that it takes work from, or took what it works on from
  VirtAddr initial_stack{}, stack_base{}, stack_limit{}, kernel_stack{}, trap_frame{};
  VirtAddr start_address{}, win32_start_address{};
  u64 create_time = 0;
  u32 cross_thread_flags = 0;
  std::string thread_name;
  std::vector<WaitBlock> wait_blocks;  // only for waiting threads
  std::vector<VirtAddr> irps;
  Walk irp_walk;
  std::vector<Gap> gaps;
  bool terminated() const { return state == ThreadState::terminated; }
  // On its way out, and perhaps not through yet: the lowest bit of CrossThreadFlags, "Terminated" in
  // the public PDBs.
  bool ending() const { return (cross_thread_flags & 1) != 0; }
};

// Whether an address is a thread: its dispatcher type, its process pointer, its stack bounds or, of one that
// has ended, its process. Cheap.
bool is_thread(const Target& target, VirtAddr va);

// Errors: those of reading its header; what else is missing becomes a gap.
Result<Thread> read_thread(const Target& target, VirtAddr va);

// Time, for Ticks: KUSER_SHARED_DATA and KeMaximumIncrement, read once per target by whoever needs it.
struct Clock {
  std::optional<u32> tick_count;
  u64 ticks_since_boot = 0;  // the same with its upper half: the lower one wraps after 776 days
  u32 increment = 156250;    // 100 ns a tick
  bool increment_known = false;
  u64 system_time = 0;     // 100 ns since 1601, 0 unknown
  u64 interrupt_time = 0;  // 100 ns since boot
  // Since a thread's WaitTime. A dump of a running guest is not of one instant: a thread that began to wait
  // after the counter was read has just begun. Nothing when it would have been before the machine started.
  std::optional<u32> since(u32 wait_time) const;
  // Cut, as debuggers print times.
  u64 ms(u64 ticks) const { return ticks * increment / 10000; }
  // To the nearest, halves to the even one: for waited_ms.
  u64 nearest_ms(u32 ticks) const {
    const u64 whole = ms(ticks), rest = u64{ticks} * increment % 10000;
    return whole + (rest > 5000 || (rest == 5000 && whole % 2 == 1) ? 1 : 0);
  }
};
Clock read_clock(const Target& target);

}  // namespace unhang::nt
