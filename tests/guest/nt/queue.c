// Queues: the one behind I/O completion ports (KQUEUE) and the one of the system's worker threads
// (KPRIQUEUE).
#include "ntp.h"

EX_WORK_QUEUE* ExWorkQueues[2];  // in NT hung from ExPartition..., by node and kind

void KeInitializeQueue(KQUEUE* queue, ULONG count) {
  memset(queue, 0, sizeof *queue);
  queue->Header.Type = QueueObject;
  queue->Header.Size = sizeof *queue / 4;
  InitializeListHead(&queue->Header.WaitListHead);
  InitializeListHead(&queue->EntryListHead);
  InitializeListHead(&queue->ThreadListHead);
  queue->MaximumCount = count;
}

// A thread belongs to the queue it last waited on.
static void KiJoinQueue(KTHREAD* thread, DISPATCHER_HEADER* queue, LIST_ENTRY* threads) {
  if (thread->Queue == queue) return;
  if (thread->Queue != NULL) RemoveEntryList(&thread->QueueListEntry);
  thread->Queue = queue;
  InsertTailList(threads, &thread->QueueListEntry);
}

static void KiLinkQueueWait(KTHREAD* thread, DISPATCHER_HEADER* queue) {
  KWAIT_BLOCK* block = &thread->WaitBlock[0];
  thread->WaitBlockList = block;
  block->Thread = thread;
  block->Object = queue;
  block->WaitType = WaitAny;
  block->BlockState = WaitBlockActive;
  block->WaitKey = 0;
  // Last in, first out: the thread that ran last has the warmest caches.
  LIST_ENTRY* first = queue->WaitListHead.Flink;
  InsertTailList(first, &block->WaitListEntry);
}

LIST_ENTRY* KeRemoveQueueEx(KQUEUE* queue, CHAR mode, BOOLEAN alertable) {
  KTHREAD* thread = KeGetCurrentThread();
  KiJoinQueue(thread, &queue->Header, &queue->ThreadListHead);
  for (;;) {
    if (!IsListEmpty(&queue->EntryListHead)) {
      queue->Header.SignalState--;
      queue->CurrentCount++;
      return RemoveHeadList(&queue->EntryListHead);
    }
    KiLinkQueueWait(thread, &queue->Header);
    KiCommitThreadWait(thread, WrQueue, mode, alertable, 1);
  }
}

void KeInitializePriQueue(KPRIQUEUE* queue, ULONG count) {
  queue->Header.Type = PriQueueObject;
  queue->Header.Size = (UCHAR)(sizeof *queue / 4);
  InitializeListHead(&queue->Header.WaitListHead);
  for (ULONG i = 0; i < 32; i++) InitializeListHead(&queue->EntryListHead[i]);
  InitializeListHead(&queue->ThreadListHead);
  queue->MaximumCount = count;
}

LIST_ENTRY* KeRemovePriQueue(KPRIQUEUE* queue, CHAR mode) {
  KTHREAD* thread = KeGetCurrentThread();
  KiJoinQueue(thread, &queue->Header, &queue->ThreadListHead);
  for (;;) {
    for (LONG i = 31; i >= 0; i--)
      if (!IsListEmpty(&queue->EntryListHead[i])) {
        queue->Header.SignalState--;
        queue->CurrentCount[i]++;
        return RemoveHeadList(&queue->EntryListHead[i]);
      }
    KiLinkQueueWait(thread, &queue->Header);
    KiCommitThreadWait(thread, WrQueue, mode, FALSE, 1);
  }
}

void KeInsertPriQueue(KPRIQUEUE* queue, LIST_ENTRY* entry, LONG priority) {
  InsertTailList(&queue->EntryListHead[priority], entry);
  queue->Header.SignalState++;
  if (IsListEmpty(&queue->Header.WaitListHead)) return;
  KWAIT_BLOCK* block = CONTAINING_RECORD(queue->Header.WaitListHead.Flink, KWAIT_BLOCK, WaitListEntry);
  KiUnlinkWait(block->Thread, STATUS_SUCCESS);
}

// ---- worker threads ----

void ExpWorkerThread(PVOID context) {
  EX_WORK_QUEUE* queue = context;
  PsGetCurrentThread()->SameThreadPassiveFlags |= 1;  // ActiveExWorker
  for (;;) {
    WORK_QUEUE_ITEM* item =
        CONTAINING_RECORD(KeRemovePriQueue(&queue->WorkPriQueue, KernelMode), WORK_QUEUE_ITEM, List);
    item->WorkerRoutine(item->Parameter);
    queue->WorkItemsProcessed++;
  }
}

void ExpInitializeWorkQueues(void) {
  for (ULONG i = 0; i < COUNT_OF(ExWorkQueues); i++) {
    EX_WORK_QUEUE* queue = ExAllocatePoolWithTag(NonPagedPool, sizeof *queue, TAG('E', 'x', 'W', 'q'));
    KeInitializePriQueue(&queue->WorkPriQueue, 8);
    queue->MinThreads = 2;
    queue->MaxThreads = 32;
    queue->QueueIndex = i;
    ExWorkQueues[i] = queue;
  }
}

void ExQueueWorkItem(WORK_QUEUE_ITEM* item, ULONG queue) {
  KeInsertPriQueue(&ExWorkQueues[0]->WorkPriQueue, &item->List, (LONG)queue);
}
