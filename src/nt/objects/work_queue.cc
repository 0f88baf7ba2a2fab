#include "nt/objects/work_queue.h"

#include "nt/objects/dispatcher.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {
constexpr u64 kPriorities = 32;
constexpr size_t kMostEntries = 1 << 16;
constexpr u32 kMostCount = 1 << 16;
}  // namespace

Result<WorkQueue> read_work_queue(const Target& target, VirtAddr va) {
  const Dispatcher d = TRY(read_dispatcher(target, va));
  const Object o(target, va);
  WorkQueue q{.address = va};
  const Error wrong{.why = Why::implausible, .va = va, .type = "_KQUEUE", .member = "Header.Type"};
  if (d.type == DispatcherType::queue) {
    q.current = o.value_or(KQUEUE::CurrentCount, 0);
    q.maximum = o.value_or(KQUEUE::MaximumCount, 0);
    q.walk = walk_list(target.kernel(), TRY(o.address(KQUEUE::EntryListHead)), kMostEntries);
    q.entries = q.walk.links;
  } else if (d.type == DispatcherType::priority_queue) {
    q.priority = true;
    q.maximum = o.value_or(KPRIQUEUE::MaximumCount, 0);
    const VirtAddr lists = TRY(o.address(KPRIQUEUE::EntryListHead)),
                   counts = TRY(o.address(KPRIQUEUE::CurrentCount));
    for (u64 i = 0; i < kPriorities; i++) {
      q.current += memory::read<u32>(target.kernel(), counts + i * 4).value_or(0);
      // Highest priority first: the order in which they are taken.
      Walk walk = walk_list(target.kernel(), lists + (kPriorities - 1 - i) * 16, kMostEntries);
      q.entries.insert(q.entries.end(), walk.links.begin(), walk.links.end());
      if (i == 0 || !walk.complete()) q.walk = std::move(walk);
    }
  } else {
    return fail(wrong);
  }
  if (q.maximum > kMostCount || q.current > kMostCount) return fail(wrong);
  const auto size = target.layouts().size_of("_EX_WORK_QUEUE");
  if (size && target.bind(EX_WORK_QUEUE::ThreadCount).has_value()) {
    // Only the executive's queues have these behind them; for others they are somebody else's bytes.
    const i32 threads = o.value_or(EX_WORK_QUEUE::ThreadCount, 0),
              most = o.value_or(EX_WORK_QUEUE::MaxThreads, 0);
    constexpr i32 kMostWorkers = 1 << 14;
    if (threads > 0 && threads <= kMostWorkers && most >= 0 && most <= kMostWorkers) {
      q.threads = threads;
      q.most_threads = most;
    }
  }
  return q;
}

Result<WorkItem> read_work_item(const Target& target, VirtAddr link) {
  const u32 offset = TRY(target.bind(WORK_QUEUE_ITEM::List)).offset;
  const Object o(target, link - offset);
  return WorkItem{o.va(), TRY(o[WORK_QUEUE_ITEM::WorkerRoutine]), TRY(o[WORK_QUEUE_ITEM::Parameter])};
}

}  // namespace unhang::nt
