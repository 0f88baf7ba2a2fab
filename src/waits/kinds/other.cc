// What is left: waits for work to come (queues, timers, messages), and events that anybody may signal. The
// first are the normal state of most threads; of the second nobody can say from memory who would signal them.
#include <algorithm>
#include <array>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

// Functions on the stack of a thread that has nothing to do (names in the kernel's public symbols and
// exports).
constexpr std::string_view kIdleFunctions[] = {"nt!KeRemoveQueue",
                                               "nt!KeRemoveQueueEx",
                                               "nt!KeRemovePriQueue",
                                               "nt!NtWaitForWorkViaWorkerFactory",
                                               "nt!NtRemoveIoCompletion",
                                               "nt!NtRemoveIoCompletionEx",
                                               "nt!IoRemoveIoCompletion",
                                               "nt!NtReplyWaitReceivePort",
                                               "nt!NtReplyWaitReceivePortEx",
                                               "nt!AlpcpReceiveMessagePort",
                                               "nt!KeBalanceSetManager",
                                               "nt!KeSwapProcessOrStack",
                                               "nt!MiModifiedPageWriter",
                                               "nt!MiMappedPageWriter",
                                               "nt!MmZeroPageThread",
                                               "nt!MiZeroPageThread",
                                               "nt!ExpWorkerThreadBalanceManager",
                                               "nt!PopIrpWorkerControl",
                                               "nt!PopIrpWorker",
                                               "nt!CcQueueLazyWriteScanThread",
                                               "nt!EtwpLogger",
                                               "nt!FsRtlWorkerThread",
                                               "nt!MiStoreEvictThread",
                                               "nt!SmKmStoreHelperWorker",
                                               "nt!ObpDeferObjectDeletion",
                                               "nt!MiDereferenceSegmentThread",
                                               "nt!CmpLazyWriteWorker",
                                               "nt!CmpDummyThreadRoutine",
                                               "nt!CcAsyncReadWorker",
                                               "nt!NtDelayExecution",
                                               "nt!KeDelayExecutionThread",
                                               "win32k!xxxRealSleepThread",
                                               "win32kfull!xxxRealSleepThread",
                                               "win32k!xxxSleepThread",
                                               "win32kbase!RawInputThread"};

// Among the innermost frames, and with nothing but the kernel inside of it: a system thread's main function
// is on its stack whatever it does.
bool on_stack(const ThreadNode& t, std::string_view& function) {
  constexpr size_t kInnermost = 8;
  for (size_t i = 0; i < t.stack.symbols.size() && i < kInnermost; i++) {
    const std::string_view s = t.stack.symbols[i];
    const std::string_view name = s.substr(0, s.find('+'));
    for (const std::string_view idle : kIdleFunctions)
      if (name == idle) {
        function = idle;
        return true;
      }
    if (!s.starts_with("nt!") && !s.starts_with("nt+") && !s.starts_with("win32k")) return false;
  }
  return false;
}

Wait classify(const ThreadNode& t, VirtAddr object, const Result<nt::Dispatcher>& d) {
  Wait w{.object = object, .kind = d ? std::string(nt::name(d->type)) : "Unknown"};
  std::string_view function;
  switch (t.thread.wait_reason) {
    case nt::kWrQueue:
      return w.nature = WaitNature::idle, w.detail = "work queue", w;
    case nt::kDelayExecution:
    case nt::kWrDelayExecution:
      return w.nature = WaitNature::idle, w.detail = "delay", w;
    case nt::kWrLpcReceive:
      return w.nature = WaitNature::idle, w.detail = "message to come", w;
    case nt::kWrUserRequest:
      return w.nature = WaitNature::idle, w.detail = "window message to come", w;
    default:
      break;
  }
  if (d) {
    switch (d->type) {
      case nt::DispatcherType::queue:
      case nt::DispatcherType::priority_queue:
        return w.nature = WaitNature::idle, w.detail = "work queue", w;
      case nt::DispatcherType::notification_timer:
      case nt::DispatcherType::synchronization_timer:
      case nt::DispatcherType::notification_timer2:
      case nt::DispatcherType::synchronization_timer2:
        return w.nature = WaitNature::idle, w.detail = "timer", w;
      default:
        break;
    }
  }
  if (on_stack(t, function)) {
    w.nature = WaitNature::idle;
    w.detail = fmt::format("in {}", function);
    w.confidence = Confidence::derived;
    return w;
  }
  w.nature = WaitNature::event;
  if (d && (d->type == nt::DispatcherType::notification_event ||
            d->type == nt::DispatcherType::synchronization_event))
    w.detail =
        d->signal_state > 0 ? "signalled: the thread is about to run" : "who signals it is not recorded";
  return w;
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!t.waiting()) continue;
    // A thread's own timer in its wait list is the time-out of the wait, not what it waits for.
    const size_t blocks = t.thread.wait_blocks.size();
    for (const nt::WaitBlock& block : t.thread.wait_blocks) {
      const bool known = std::any_of(t.waits.begin(), t.waits.end(),
                                     [&](const Wait& w) { return w.object == block.object; });
      if (known) continue;
      const auto d = nt::read_dispatcher(world.target(), block.object);
      const bool own_timer = block.object > t.thread.address && block.object - t.thread.address < 0x1000;
      if (own_timer && blocks > 1 && d &&
          (d->type == nt::DispatcherType::notification_timer ||
           d->type == nt::DispatcherType::synchronization_timer))
        continue;
      // The semaphore or event of a resource, the event of a mutex: the lock's inside, not another wait.
      if (t.nature() == WaitNature::lock)
        world.add_wait(t, {.object = block.object,
                           .kind = d ? std::string(nt::name(d->type)) : "Unknown",
                           .nature = WaitNature::lock,
                           .detail = "what the lock signals"});
      else
        world.add_wait(t, classify(t, block.object, d));
    }
  }
}

}  // namespace

extern const WaitKind other_kind;
const WaitKind other_kind{.name = "other", .order = 100, .find = find};

}  // namespace unhang::waits
