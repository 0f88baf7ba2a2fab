// Threads and processes as the dispatcher sees them, and the switch between them.
#include "ntp.h"

void KeInitializeProcess(KPROCESS* process, LONG priority, ULONG64 directory_table_base) {
  process->Header.Type = ProcessObject;
  process->Header.Size = (UCHAR)(sizeof(KPROCESS) / 4);
  InitializeListHead(&process->Header.WaitListHead);
  InitializeListHead(&process->ProfileListHead);
  InitializeListHead(&process->ThreadListHead);
  InitializeListHead(&process->ReadyListHead);
  process->DirectoryTableBase = directory_table_base;
  process->BasePriority = (CHAR)priority;
  process->QuantumReset = 6;
}

void KeInitThread(KTHREAD* thread, PVOID stack_base, KPROCESS* process, LONG priority) {
  thread->Header.Type = ThreadObject;
  thread->Header.Size = 6;
  InitializeListHead(&thread->Header.WaitListHead);
  InitializeListHead(&thread->MutantListHead);
  InitializeListHead(&thread->ApcState.ApcListHead[0]);
  InitializeListHead(&thread->ApcState.ApcListHead[1]);
  KeInitializeEvent(&thread->SuspendEvent, EventSynchronizationObject, FALSE);
  KeInitializeTimer(&thread->Timer, TimerNotificationObject);
  for (ULONG i = 0; i < 4; i++) thread->WaitBlock[i].Thread = thread;
  thread->WaitBlock[3].Object = &thread->Timer;
  thread->StackBase = stack_base;
  thread->InitialStack = (PVOID)((ULONG64)stack_base - 0x50);  // a KSTACK_CONTROL and the alignment above it
  thread->StackLimit = (PVOID)((ULONG64)stack_base - 0x6000);
  thread->Process = thread->ApcState.Process = process;
  thread->Priority = thread->BasePriority = (CHAR)priority;
  thread->KernelStackResident = 1;
  thread->EnableStackSwap = 1;
  thread->State = Initialized;
  InsertTailList(&process->ThreadListHead, &thread->ThreadListEntry);
}

// A switch frame, so that the first switch to the thread "returns" to its start function, and above it what
// that function expects.
void KiInitializeContextThread(KTHREAD* thread, PVOID start, PVOID argument1, PVOID argument2) {
  ULONG64* top = (ULONG64*)((ULONG64)thread->InitialStack - 0x28);
  top[0] = 0;
  top[1] = (ULONG64)argument1;
  top[2] = (ULONG64)argument2;
  KSWITCH_FRAME* frame = (KSWITCH_FRAME*)top - 1;
  memset(frame, 0, sizeof *frame);
  frame->Return = (ULONG64)start;
  thread->KernelStack = frame;
}

void KiReadyThread(KTHREAD* thread) {
  thread->WaitTime = KeQueryTickCount();
  KPRCB* prcb = KiProcessorBlock[thread->NextProcessorNumber];
  if (prcb != KeGetCurrentPrcb()) {
    thread->State = Standby;
    *(KTHREAD* volatile*)&prcb->NextThread = thread;
    return;
  }
  thread->State = Ready;
  InsertTailList(&prcb->DispatcherReadyListHead[(ULONG)thread->Priority], &thread->WaitListEntry);
  prcb->ReadySummary |= 1u << thread->Priority;
}

static KTHREAD* KiSelectNextThread(KPRCB* prcb) {
  KTHREAD* next = prcb->NextThread;
  if (next != NULL) {
    prcb->NextThread = NULL;
    return next;
  }
  if (prcb->ReadySummary == 0) return prcb->IdleThread;
  ULONG priority = 31u - (ULONG)__builtin_clz(prcb->ReadySummary);
  LIST_ENTRY* list = &prcb->DispatcherReadyListHead[priority];
  next = CONTAINING_RECORD(RemoveHeadList(list), KTHREAD, WaitListEntry);
  if (IsListEmpty(list)) prcb->ReadySummary &= ~(1u << priority);
  return next;
}

// Makes a thread the processor's current one, except for its stack. NULL: whichever is next.
void KiLoadContext(KPRCB* prcb, KTHREAD* new_thread) {
  if (new_thread == NULL) new_thread = KiSelectNextThread(prcb);
  KPCR* pcr = CONTAINING_RECORD(prcb, KPCR, Prcb);
  KTHREAD* old_thread = prcb->CurrentThread;
  if (old_thread != NULL && old_thread != new_thread) old_thread->Running = 0;
  new_thread->State = Running;
  new_thread->Running = 1;
  new_thread->ContextSwitches++;
  new_thread->Process->ContextSwitches++;
  prcb->KeContextSwitches++;
  prcb->CurrentThread = new_thread;
  prcb->RspBase = (ULONG64)new_thread->InitialStack;
  *(ULONG64*)((UCHAR*)pcr->TssBase + 4) = prcb->RspBase;
  __writecr3(new_thread->ApcState.Process->DirectoryTableBase);
  __writemsr(MSR_KERNEL_GS_BASE, (ULONG64)new_thread->Teb);
}

// Runs another thread until this one is made ready again. Returns what its wait came to.
LONG64 KiSwapThread(KTHREAD* old_thread, KPRCB* prcb) {
  KiLoadContext(prcb, NULL);
  if (prcb->CurrentThread != old_thread) KiSwapContext(old_thread, prcb->CurrentThread);
  return old_thread->WaitStatus;
}

void NtYieldExecution(void) {
  KTHREAD* thread = KeGetCurrentThread();
  KiReadyThread(thread);
  KiSwapThread(thread, KeGetCurrentPrcb());
}

void KeStackAttachProcess(KPROCESS* process, KAPC_STATE* state) {
  KTHREAD* thread = KeGetCurrentThread();
  state->Process = thread->ApcState.Process;
  thread->ApcState.Process = process;
  thread->ApcStateIndex = 1;
  __writecr3(process->DirectoryTableBase);
}

void KeUnstackDetachProcess(KAPC_STATE* state) {
  KTHREAD* thread = KeGetCurrentThread();
  thread->ApcState.Process = state->Process;
  thread->ApcStateIndex = 0;
  __writecr3(state->Process->DirectoryTableBase);
}
