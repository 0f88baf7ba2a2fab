#include "nt/objects/dispatcher.h"

#include "nt/objects/thread.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {
// A queue may have a thousand workers; more than this on one object is damage.
constexpr size_t kMostWaiters = 1 << 16;

DispatcherType type_of(u8 raw) {
  // Bit 7 is a lock bit since Windows 7 (DISPATCHER_HEADER.Lock overlays Type).
  switch (raw & 0x7f) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
    case 21:
    case 24:
    case 25:
      return static_cast<DispatcherType>(raw & 0x7f);
    default:
      return DispatcherType::unknown;
  }
}
}  // namespace

std::string_view name(DispatcherType type) {
  switch (type) {
    case DispatcherType::notification_event:
      return "NotificationEvent";
    case DispatcherType::synchronization_event:
      return "SynchronizationEvent";
    case DispatcherType::mutant:
      return "Mutant";
    case DispatcherType::process:
      return "ProcessObject";
    case DispatcherType::queue:
      return "QueueObject";
    case DispatcherType::semaphore:
      return "Semaphore";
    case DispatcherType::thread:
      return "Thread";
    case DispatcherType::gate:
      return "Gate";
    case DispatcherType::notification_timer:
      return "NotificationTimer";
    case DispatcherType::synchronization_timer:
      return "SynchronizationTimer";
    case DispatcherType::priority_queue:
      return "PriQueueObject";
    case DispatcherType::notification_timer2:
      return "Timer2NotificationObject";
    case DispatcherType::synchronization_timer2:
      return "Timer2SynchronizationObject";
    case DispatcherType::unknown:
      return "Unknown";
  }
  return "Unknown";
}

Result<Dispatcher> read_dispatcher(const Target& target, VirtAddr va) {
  const Object o(target, va);
  Dispatcher d{.address = va};
  d.type = type_of(TRY(o[DISPATCHER_HEADER::Type]));
  d.signal_state = o.value_or(DISPATCHER_HEADER::SignalState, 0);
  if (d.type == DispatcherType::unknown)
    return fail(Error{.why = Why::implausible, .va = va, .type = "_DISPATCHER_HEADER", .member = "Type"});
  switch (d.type) {
    case DispatcherType::mutant:
      d.owner_thread = o.value_or(KMUTANT::OwnerThread, {});
      d.abandoned = o.value_or(KMUTANT::Abandoned, 0) != 0;
      break;
    case DispatcherType::semaphore:
      d.limit = o.value_or(KSEMAPHORE::Limit, 0);
      break;
    case DispatcherType::notification_timer:
    case DispatcherType::synchronization_timer:
      d.due_time = o.value_or(KTIMER::DueTime, 0);
      break;
    case DispatcherType::queue:
      d.current_count = o.value_or(KQUEUE::CurrentCount, 0);
      d.maximum_count = o.value_or(KQUEUE::MaximumCount, 0);
      break;
    default:
      break;
  }
  return d;
}

Waiters read_waiters(const Target& target, VirtAddr object) {
  Waiters out;
  const auto head = Object(target, object).address(DISPATCHER_HEADER::WaitListHead);
  const auto link = target.bind(KWAIT_BLOCK::WaitListEntry);
  if (!head || !link) {
    out.walk.end = WalkEnd::unreadable;
    out.walk.at = object;
    out.walk.error = head ? link.error() : head.error();
    return out;
  }
  out.walk = walk_list(target.kernel(), *head, kMostWaiters);
  for (const VirtAddr l : out.walk.links)
    if (const auto t = Object(target, l - link->offset)[KWAIT_BLOCK::Thread]; t && is_kernel(*t))
      out.threads.push_back(*t);
  return out;
}

Walk owned_mutants(const Target& target, VirtAddr thread, std::vector<VirtAddr>& mutants) {
  const auto head = Object(target, thread).address(KTHREAD::MutantListHead);
  const auto link = target.bind(KMUTANT::MutantListEntry);
  if (!head || !link) return {};
  const Walk walk = walk_list(target.kernel(), *head, kMostWaiters);
  for (const VirtAddr l : walk.links) mutants.push_back(l - link->offset);
  return walk;
}

}  // namespace unhang::nt
