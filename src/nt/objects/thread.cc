#include "nt/objects/thread.h"

#include <array>

#include "base/format.h"
#include "nt/objects/dispatcher.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {

constexpr size_t kMostIrps = 4096;
constexpr size_t kMostWaitBlocks = 64;  // MAXIMUM_WAIT_OBJECTS

// The wait blocks of a thread, in both forms: a ring of NextWaitBlock, or an array with a count.
void read_wait_blocks(const Target& target, const Object& o, Thread& t) {
  const auto first = o[KTHREAD::WaitBlockList];
  if (!first) {
    t.gaps.push_back({"wait blocks", hex(t.address), text(first.error())});
    return;
  }
  const bool linked = target.bind(KWAIT_BLOCK::NextWaitBlock).has_value();
  const size_t count = linked ? kMostWaitBlocks : o.maybe(KTHREAD::WaitBlockCount).value_or(1);
  const u64 size = target.layouts().size_of("_KWAIT_BLOCK").value_or(0x30);
  VirtAddr at = *first;
  for (size_t i = 0; i < std::min(count, kMostWaitBlocks) && is_kernel(at); i++) {
    const Object block(target, at);
    const auto object = block[KWAIT_BLOCK::Object];
    const auto thread = block[KWAIT_BLOCK::Thread];
    if (!object || !thread) {
      t.gaps.push_back({"wait block", hex(at), text(object ? thread.error() : object.error())});
      break;
    }
    // The time-out of a wait is a block of its own for the thread's timer: not what it waits for.
    if (*thread == t.address && !object->is_null())
      t.wait_blocks.push_back(
          {at, *object, block.value_or(KWAIT_BLOCK::WaitType, 0),
           static_cast<u8>(Object(target, *object).value_or(DISPATCHER_HEADER::Type, 0x7f) & 0x7f)});
    if (linked) {
      const auto next = block[KWAIT_BLOCK::NextWaitBlock];
      if (!next || *next == *first || next->is_null()) break;
      at = *next;
    } else {
      at += size;
    }
  }
  // A thread that is woken by its id waits for no object.
  if (t.wait_blocks.empty() && t.wait_reason != kWrAlertByThreadId)
    t.gaps.push_back({"wait blocks", hex(*first), "none of them is this thread's"});
}

void read_irps(const Target& target, const Object& o, Thread& t) {
  // Where IRP.ThreadListEntry lies is the IRP's business: see irp.cc; here only the links.
  const auto head = o.address(ETHREAD::IrpList);
  if (!head) return;
  t.irp_walk = walk_list(target.kernel(), *head, kMostIrps);
  t.irps = t.irp_walk.links;
}

}  // namespace

std::string_view name(ThreadState state) {
  static constexpr std::array<std::string_view, 10> kNames = {
      "Initialized", "Ready",      "Running",       "Standby",          "Terminated",
      "Waiting",     "Transition", "DeferredReady", "GateWaitObsolete", "WaitingForProcessInSwap"};
  const auto i = static_cast<size_t>(state);
  return i < kNames.size() ? kNames[i] : "Unknown";
}

std::string_view state_word(ThreadState state) {
  switch (state) {
    case ThreadState::initialized:
      return "INITIALIZED";
    case ThreadState::ready:
      return "READY";
    case ThreadState::running:
      return "RUNNING";
    case ThreadState::standby:
      return "STANDBY";
    case ThreadState::terminated:
      return "TERMINATED";
    case ThreadState::waiting:
      return "WAIT";
    case ThreadState::transition:
      return "TRANSITION";
    case ThreadState::deferred_ready:
      return "DEFERREDREADY";
    case ThreadState::gate_wait_obsolete:
      return "GATEWAIT";
    case ThreadState::waiting_for_process_in_swap:
      return "WAITINGFORPROCESSINSWAP";
  }
  return "????";
}

std::string_view wait_reason_name(u8 reason) {
  static constexpr std::array<std::string_view, 41> kNames = {
      "Executive",        "FreePage",          "PageIn",
      "PoolAllocation",   "DelayExecution",    "Suspended",
      "UserRequest",      "WrExecutive",       "WrFreePage",
      "WrPageIn",         "WrPoolAllocation",  "WrDelayExecution",
      "WrSuspended",      "WrUserRequest",     "WrEventPair",
      "WrQueue",          "WrLpcReceive",      "WrLpcReply",
      "WrVirtualMemory",  "WrPageOut",         "WrRendezvous",
      "WrKeyedEvent",     "WrTerminated",      "WrProcessInSwap",
      "WrCpuRateControl", "WrCalloutStack",    "WrKernel",
      "WrResource",       "WrPushLock",        "WrMutex",
      "WrQuantumEnd",     "WrDispatchInt",     "WrPreempted",
      "WrYieldExecution", "WrFastMutex",       "WrGuardedMutex",
      "WrRundown",        "WrAlertByThreadId", "WrDeferredPreempt",
      "WrPhysicalFault",  "WrIoRing"};
  return reason < kNames.size() ? kNames[reason] : "Unknown";
}

bool is_thread(const Target& target, VirtAddr va) {
  if (!is_kernel(va) || va.value() % 8 != 0) return false;
  const Object o(target, va);
  const auto type = o[DISPATCHER_HEADER::Type];
  if (!type || (*type & 0x7f) != static_cast<u8>(DispatcherType::thread)) return false;
  const auto process = o[KTHREAD::Process];
  if (!process || !is_kernel(*process)) return false;
  // A thread that has ended may have given its stack back: its process is the second witness then.
  if (const auto state = o[KTHREAD::State]; state && *state == static_cast<u8>(ThreadState::terminated)) {
    const auto owner = read_dispatcher(target, *process);
    return owner && owner->type == DispatcherType::process;
  }
  const auto base = o[KTHREAD::StackBase], limit = o[KTHREAD::StackLimit];
  return base && limit && is_kernel(*base) && *limit < *base;
}

Result<Thread> read_thread(const Target& target, VirtAddr va) {
  const Object o(target, va);
  Thread t{.address = va};
  const u8 type = TRY(o[DISPATCHER_HEADER::Type]);
  if ((type & 0x7f) != static_cast<u8>(DispatcherType::thread))
    return fail(Error{.why = Why::implausible,
                      .va = va,
                      .type = "_ETHREAD",
                      .member = "Tcb.Header.Type",
                      .detail = "not a thread"});
  t.state = static_cast<ThreadState>(TRY(o[KTHREAD::State]));
  auto need = [&](auto result, auto& out, const char* what) {
    if (result)
      out = *result;
    else
      t.gaps.push_back({what, hex(va), text(result.error())});
  };
  need(o[ETHREAD::UniqueProcess], t.pid, "process id");
  need(o[ETHREAD::UniqueThread], t.tid, "thread id");
  need(o[KTHREAD::Process], t.process, "process");
  need(o[KTHREAD::WaitReason], t.wait_reason, "wait reason");
  need(o[KTHREAD::WaitTime], t.wait_time, "wait time");
  need(o[KTHREAD::StackBase], t.stack_base, "stack base");
  need(o[KTHREAD::StackLimit], t.stack_limit, "stack limit");
  t.stack_resident = o.value_or(KTHREAD::KernelStackResident, 1) != 0;
  need(o[KTHREAD::KernelStack], t.kernel_stack, "kernel stack");
  if (const auto attached = o.maybe(KTHREAD::AttachedProcess); attached && *attached != t.process)
    t.attached_process = *attached;
  t.user_mode_wait = o.value_or(KTHREAD::WaitMode, 0) == 1;
  t.alertable = o.value_or(KTHREAD::Alertable, 0) != 0;
  t.priority = static_cast<i8>(o.value_or(KTHREAD::Priority, 0));
  t.base_priority = static_cast<i8>(o.value_or(KTHREAD::BasePriority, 0));
  t.priority_decrement = static_cast<i8>(o.value_or(KTHREAD::PriorityDecrement, 0));
  t.context_switches = o.value_or(KTHREAD::ContextSwitches, 0);
  t.kernel_ticks = o.value_or(KTHREAD::KernelTime, 0);
  t.user_ticks = o.value_or(KTHREAD::UserTime, 0);
  t.ideal_processor = o.value_or(KTHREAD::IdealProcessor, 0);
  t.next_processor = o.value_or(KTHREAD::NextProcessor, 0) & 0x7fffffff;
  t.suspend_count = o.value_or(KTHREAD::SuspendCount, 0);
  t.teb = o.value_or(KTHREAD::Teb, {});
  t.queue = o.value_or(KTHREAD::Queue, {});
  t.win32_thread = o.value_or(KTHREAD::Win32Thread, {});
  t.initial_stack = o.value_or(KTHREAD::InitialStack, {});
  t.trap_frame = o.value_or(KTHREAD::TrapFrame, {});
  t.start_address = o.value_or(ETHREAD::StartAddress, {});
  t.win32_start_address = o.value_or(ETHREAD::Win32StartAddress, {});
  t.create_time = o.value_or(ETHREAD::CreateTime, 0);
  t.cross_thread_flags = o.value_or(ETHREAD::CrossThreadFlags, 0);
  if (const auto at = o.maybe(ETHREAD::ThreadName); at && is_kernel(*at))
    if (const auto s = memory::read<UnicodeString>(target.kernel(), *at))
      t.thread_name = target.read_string(*s).value_or("");
  if (t.state == ThreadState::waiting) read_wait_blocks(target, o, t);
  read_irps(target, o, t);
  return t;
}

std::optional<u32> Clock::since(u32 wait_time) const {
  if (!tick_count) return std::nullopt;
  constexpr u32 kMostAhead = 60'000;  // a quarter of an hour: longer than any dump takes
  const u32 ticks = *tick_count - wait_time;
  if (~ticks < kMostAhead) return 0;
  if (ticks > ticks_since_boot) return std::nullopt;
  return ticks;
}

Clock read_clock(const Target& target) {
  // KUSER_SHARED_DATA (public header ntddk.h): InterruptTime +8, SystemTime +0x14, TickCount +0x320. The
  // KSYSTEM_TIME parts are low, high1, high2; TickCountLowDeprecated at +0 stands still on x64.
  const Source<VirtAddr>& k = target.kernel();
  Clock clock;
  if (const auto ticks = memory::read<u64>(k, kUserSharedData + 0x320)) {
    clock.tick_count = static_cast<u32>(*ticks);
    clock.ticks_since_boot = *ticks;
  }
  clock.interrupt_time = memory::read<u64>(k, kUserSharedData + 0x08).value_or(0);
  clock.system_time = memory::read<u64>(k, kUserSharedData + 0x14).value_or(0);
  if (const auto at = target.symbol("KeMaximumIncrement"))
    if (const auto v = memory::read<u32>(k, *at); v && *v >= 1000 && *v <= 1000000) {
      clock.increment = *v;
      clock.increment_known = true;
    }
  if (!clock.increment_known) {
    // TickCountMultiplier: milliseconds a tick, 24 fractional bits.
    const u64 m = memory::read<u32>(k, kUserSharedData + 4).value_or(0);
    if (m >= (u64{1} << 20) && m <= (u64{100} << 24)) {
      clock.increment = static_cast<u32>((m * 10000 + (1 << 23)) >> 24);
      clock.increment_known = true;
    }
  }
  return clock;
}

}  // namespace unhang::nt
