// Time. Nothing ticks by itself: the scene moves the clock on, by seconds or minutes at once, and so makes
// waits of any age within a second of real time.
#include "ntp.h"

ULONG KeMaximumIncrement = CLOCK_INCREMENT;
ULONG KeTimeIncrement = CLOCK_INCREMENT;

// 2025-12-17 09:00:00 UTC.
#define START_SYSTEM_TIME 134104356000000000ull

static void KiStoreTime(KSYSTEM_TIME* to, ULONG64 value) {
  to->High2Time = (LONG)(value >> 32);
  to->LowPart = (ULONG)value;
  to->High1Time = (LONG)(value >> 32);
}

static void KiStoreTimes(ULONG64 ticks) {
  KUSER_SHARED_DATA* shared = SharedUserData;
  KiStoreTime(&shared->TickCount, ticks);
  KiStoreTime(&shared->InterruptTime, ticks * CLOCK_INCREMENT);
  KiStoreTime(&shared->SystemTime, START_SYSTEM_TIME + ticks * CLOCK_INCREMENT);
}

ULONG KeQueryTickCount(void) {
  return SharedUserData->TickCount.LowPart;
}

void KeInitializeClock(void) {
  KUSER_SHARED_DATA* shared = SharedUserData;
  shared->TickCountMultiplier = 0x0fa00000;  // 15.625 ms
  shared->NtBuildNumber = 19041;
  shared->NtMajorVersion = 10;
  shared->NtMinorVersion = 0;
  shared->NtProductType = 3;  // server
  shared->ProductTypeIsValid = 1;
  shared->NativeProcessorArchitecture = 9;
  shared->ImageNumberLow = shared->ImageNumberHigh = 0x8664;
  shared->SuiteMask = 0x110;
  shared->ActiveProcessorCount = LOADER_PROCESSORS;
  shared->ActiveGroupCount = 1;
  shared->NumberOfPhysicalPages = (ULONG)KeLoaderBlock->MemoryPages;
  static const WCHAR root[] = L"C:\\Windows";
  memcpy(shared->NtSystemRoot, root, sizeof root);
  KiStoreTimes(0);
}

// What the clock interrupt does, for many ticks at once: the time, and the account of whoever runs on each
// processor.
void KeAdvanceClock(ULONG ticks) {
  KiStoreTimes(SharedUserData->TickCountQuad + ticks);
  for (ULONG i = 0; i < KeNumberProcessors; i++) {
    KPRCB* prcb = KiProcessorBlock[i];
    KTHREAD* thread = prcb->CurrentThread;
    // The thread that moves the clock is not part of the scene: its processor would have been idle.
    if (i == KeGetCurrentPrcb()->Number) thread = prcb->IdleThread;
    thread->KernelTime += ticks;
    thread->Process->KernelTime += ticks;
    prcb->KernelTime += ticks;
    prcb->ClockInterrupts += ticks;
    prcb->LastTick = KeQueryTickCount();
  }
}
