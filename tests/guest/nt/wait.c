// Waiting: events, mutants, semaphores, timers. No time-out ever expires here: the clock only moves when the
// scene moves it, and no scene lets a timer run out.
#include "ntp.h"

static void KiInitializeHeader(DISPATCHER_HEADER* header, ULONG type, ULONG size, LONG state) {
  header->Lock = 0;
  header->Type = (UCHAR)type;
  header->Size = (UCHAR)(size / 4);
  header->SignalState = state;
  InitializeListHead(&header->WaitListHead);
}

void KeInitializeEvent(KEVENT* event, ULONG type, BOOLEAN state) {
  KiInitializeHeader(&event->Header, type, sizeof *event, state);
}

void KeInitializeSemaphore(KSEMAPHORE* semaphore, LONG count, LONG limit) {
  KiInitializeHeader(&semaphore->Header, SemaphoreObject, sizeof *semaphore, count);
  semaphore->Limit = limit;
}

void KeInitializeTimer(KTIMER* timer, ULONG type) {
  KiInitializeHeader(&timer->Header, type, sizeof *timer, 0);
  timer->DueTime.QuadPart = 0;
  InitializeListHead(&timer->TimerListEntry);
  timer->Dpc = NULL;
  timer->Period = 0;
}

static void KiTakeMutant(KMUTANT* mutant, KTHREAD* thread) {
  mutant->OwnerThread = thread;
  InsertTailList(&thread->MutantListHead, &mutant->MutantListEntry);
}

void KeInitializeMutant(KMUTANT* mutant, BOOLEAN initial_owner) {
  KiInitializeHeader(&mutant->Header, MutantObject, sizeof *mutant, initial_owner ? 0 : 1);
  mutant->OwnerThread = NULL;
  mutant->Abandoned = mutant->ApcDisable = 0;
  if (initial_owner) KiTakeMutant(mutant, KeGetCurrentThread());
}

static BOOLEAN KiIsSignalled(const DISPATCHER_HEADER* object, const KTHREAD* thread) {
  if (object->Type == MutantObject)
    return object->SignalState > 0 || ((const KMUTANT*)object)->OwnerThread == thread;
  return object->SignalState > 0;
}

// What a successful wait does to the object.
static void KiSatisfyWait(DISPATCHER_HEADER* object, KTHREAD* thread) {
  switch (object->Type) {
    case EventSynchronizationObject:
    case TimerSynchronizationObject:
      object->SignalState = 0;
      break;
    case SemaphoreObject:
      object->SignalState--;
      break;
    case MutantObject:
      if (--object->SignalState == 0) KiTakeMutant((KMUTANT*)object, thread);
      break;
    default:
      break;
  }
}

static void KiLinkWait(KTHREAD* thread, ULONG index, DISPATCHER_HEADER* object, ULONG wait_type, ULONG key) {
  KWAIT_BLOCK* block = &thread->WaitBlock[index];
  block->Thread = thread;
  block->Object = object;
  block->WaitType = (UCHAR)wait_type;
  block->BlockState = WaitBlockActive;
  block->WaitKey = (USHORT)key;
  InsertTailList(&object->WaitListHead, &block->WaitListEntry);
}

// The blocks are linked; gives the processor away until something ends the wait.
NTSTATUS KiCommitThreadWait(KTHREAD* thread, KWAIT_REASON reason, CHAR mode, BOOLEAN alertable,
                            ULONG blocks) {
  KPRCB* prcb = KeGetCurrentPrcb();
  thread->WaitBlockCount = (UCHAR)blocks;
  thread->WaitReason = (UCHAR)reason;
  thread->WaitMode = mode;
  thread->WaitIrql = PASSIVE_LEVEL;
  thread->Alertable = alertable;
  thread->WaitTime = KeQueryTickCount();
  thread->WaitPrcb = prcb;
  thread->State = Waiting;
  // Only waits in user mode let the stack be swapped out; the balance set manager looks at this list.
  if (mode == UserMode)
    InsertTailList(&prcb->WaitListHead, &thread->WaitListEntry);
  else
    InitializeListHead(&thread->WaitListEntry);
  LONG64 status = KiSwapThread(thread, prcb);
  return (NTSTATUS)status;
}

// Ends a thread's wait: all its blocks leave their lists.
void KiUnlinkWait(KTHREAD* thread, NTSTATUS status) {
  for (ULONG i = 0; i < thread->WaitBlockCount; i++) {
    KWAIT_BLOCK* block = &thread->WaitBlockList[i];
    RemoveEntryList(&block->WaitListEntry);
    block->BlockState = WaitBlockInactive;
  }
  RemoveEntryList(&thread->WaitListEntry);
  InitializeListHead(&thread->WaitListEntry);
  thread->WaitStatus = status;
  KiReadyThread(thread);
}

// The object was signalled: as many waiters as it can satisfy go on.
static void KiWakeWaiters(DISPATCHER_HEADER* object) {
  while (object->SignalState > 0 && !IsListEmpty(&object->WaitListHead)) {
    KWAIT_BLOCK* block = CONTAINING_RECORD(object->WaitListHead.Flink, KWAIT_BLOCK, WaitListEntry);
    KTHREAD* thread = block->Thread;
    KiSatisfyWait(object, thread);
    KiUnlinkWait(thread, block->WaitKey);
  }
}

LONG KeSetEvent(KEVENT* event, LONG increment, BOOLEAN wait) {
  LONG before = event->Header.SignalState;
  event->Header.SignalState = 1;
  KiWakeWaiters(&event->Header);
  return before;
}

LONG KeReleaseMutant(KMUTANT* mutant, LONG increment, BOOLEAN abandoned, BOOLEAN wait) {
  LONG before = mutant->Header.SignalState++;
  if (mutant->Header.SignalState == 1) {
    RemoveEntryList(&mutant->MutantListEntry);
    mutant->OwnerThread = NULL;
    KiWakeWaiters(&mutant->Header);
  }
  return before;
}

NTSTATUS KeWaitForSingleObject(PVOID object, KWAIT_REASON reason, CHAR mode, BOOLEAN alertable,
                               LARGE_INTEGER* timeout) {
  KTHREAD* thread = KeGetCurrentThread();
  if (KiIsSignalled(object, thread)) {
    KiSatisfyWait(object, thread);
    return STATUS_SUCCESS;
  }
  thread->WaitBlockList = &thread->WaitBlock[0];
  KiLinkWait(thread, 0, object, WaitAny, 0);
  return KiCommitThreadWait(thread, reason, mode, alertable, 1);
}

// Up to three objects: the thread's own blocks are used. WaitAll only where all are signalled already.
NTSTATUS KeWaitForMultipleObjects(ULONG count, PVOID objects[], ULONG wait_type, KWAIT_REASON reason,
                                  CHAR mode, BOOLEAN alertable, LARGE_INTEGER* timeout, KWAIT_BLOCK* blocks) {
  KTHREAD* thread = KeGetCurrentThread();
  for (ULONG i = 0; i < count && wait_type == WaitAny; i++)
    if (KiIsSignalled(objects[i], thread)) {
      KiSatisfyWait(objects[i], thread);
      return (NTSTATUS)i;
    }
  thread->WaitBlockList = &thread->WaitBlock[0];
  for (ULONG i = 0; i < count; i++) KiLinkWait(thread, i, objects[i], wait_type, i);
  return KiCommitThreadWait(thread, reason, mode, alertable, count);
}

// Sleeping is a wait for the thread's own timer, with the block that is reserved for it.
NTSTATUS KeDelayExecutionThread(CHAR mode, BOOLEAN alertable, LARGE_INTEGER* interval) {
  KTHREAD* thread = KeGetCurrentThread();
  KTIMER* timer = &thread->Timer;
  ULONG64 now =
      (ULONG64)(ULONG)SharedUserData->InterruptTime.High1Time << 32 | SharedUserData->InterruptTime.LowPart;
  timer->Header.SignalState = 0;
  timer->DueTime.QuadPart = now - (ULONG64)interval->QuadPart;
  thread->TimerActive = 1;
  thread->WaitBlockList = &thread->WaitBlock[3];
  KiLinkWait(thread, 3, &timer->Header, WaitAny, 0);
  return KiCommitThreadWait(thread, DelayExecution, mode, alertable, 1);
}
