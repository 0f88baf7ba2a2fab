// Queues that threads take work from: the executive's worker queues and completion ports of thread pools.
// They are found from their threads (KTHREAD.Queue), so no symbol is needed; the executive's are known by
// the functions on their workers' stacks.
// Facts: public PDBs (_KQUEUE, _KPRIQUEUE, _WORK_QUEUE_ITEM); KTHREAD.Queue keeps the queue that a thread is
// bound to while it works on what it took.
#pragma once

#include <vector>

#include "nt/object.h"
#include "nt/walk.h"

namespace unhang::nt {

struct KPRIQUEUE {
  static constexpr TypeName kType{"_KPRIQUEUE"};
  static inline const Member<Inside> EntryListHead{kType, "EntryListHead"};  // 32 lists, by priority
  static inline const Member<Inside> CurrentCount{kType, "CurrentCount"};    // 32 counts
  static inline const Member<u32> MaximumCount{kType, "MaximumCount"};
  static inline const Member<ListEntry> ThreadListHead{kType, "ThreadListHead"};
};

struct EX_WORK_QUEUE {
  static constexpr TypeName kType{"_EX_WORK_QUEUE"};
  static inline const Member<i32> ThreadCount{kType, "ThreadCount", "DynamicThreadCount"};
  static inline const Member<i32> MaxThreads{kType, "MaxThreads"};
  static inline const Member<u32> WorkItemsProcessed{kType, "WorkItemsProcessed"};
};

struct WORK_QUEUE_ITEM {
  static constexpr TypeName kType{"_WORK_QUEUE_ITEM"};
  static inline const Member<ListEntry> List{kType, "List"};
  static inline const Member<VirtAddr> WorkerRoutine{kType, "WorkerRoutine"};
  static inline const Member<VirtAddr> Parameter{kType, "Parameter"};
};

struct WorkItem {
  VirtAddr address{};
  VirtAddr routine{}, parameter{};
};

struct WorkQueue {
  VirtAddr address{};
  bool priority = false;  // a KPRIQUEUE
  u32 current = 0;        // threads that work on something that they took and do not wait
  u32 maximum = 0;
  i32 threads = 0, most_threads = 0;  // as the executive counts its workers; 0: not such a queue, or unknown
  std::vector<VirtAddr> entries;      // links of what is queued
  Walk walk;                          // of the last list that did not end well, else of any
};

// Errors: those of reading, implausible (no queue).
Result<WorkQueue> read_work_queue(const Target& target, VirtAddr va);
// A queued entry as the executive's work item. Errors: those of reading.
Result<WorkItem> read_work_item(const Target& target, VirtAddr link);

}  // namespace unhang::nt
