// Kernel ("Ke"): dispatcher objects, waits, threads, processors, trap frames.
#pragma once
#include "base.h"

typedef struct _KTHREAD KTHREAD;
typedef struct _KPROCESS KPROCESS;
typedef struct _KPRCB KPRCB;

// KOBJECTS: DISPATCHER_HEADER.Type.
enum _KOBJECTS {
  EventNotificationObject = 0,
  EventSynchronizationObject = 1,
  MutantObject = 2,
  ProcessObject = 3,
  QueueObject = 4,
  SemaphoreObject = 5,
  ThreadObject = 6,
  GateObject = 7,
  TimerNotificationObject = 8,
  TimerSynchronizationObject = 9,
  PriQueueObject = 21,
};

typedef enum _KTHREAD_STATE {
  Initialized,
  Ready,
  Running,
  Standby,
  Terminated,
  Waiting,
  Transition,
  DeferredReady,
  GateWaitObsolete,
  WaitingForProcessInSwap,
} KTHREAD_STATE;

typedef enum _KWAIT_REASON {
  Executive = 0,
  FreePage = 1,
  PageIn = 2,
  DelayExecution = 4,
  Suspended = 5,
  UserRequest = 6,
  WrExecutive = 7,
  WrFreePage = 8,
  WrQueue = 15,
  WrResource = 27,
} KWAIT_REASON;

enum _MODE { KernelMode = 0, UserMode = 1 };
enum _WAIT_TYPE { WaitAll = 0, WaitAny = 1 };
// KWAIT_BLOCK_STATE: WaitBlockActive is 4 since Windows 8.1.
enum _KWAIT_BLOCK_STATE { WaitBlockInactive = 3, WaitBlockActive = 4 };

#define PASSIVE_LEVEL 0
#define DISPATCH_LEVEL 2

typedef struct _DISPATCHER_HEADER {  // 0x18
  union {
    LONG Lock;  // 0x00
    struct {
      UCHAR Type;         // 0x00
      UCHAR Signalling;   // 0x01
      UCHAR Size;         // 0x02  in ULONGs
      UCHAR DebugActive;  // 0x03
    };
  };
  LONG SignalState;         // 0x04
  LIST_ENTRY WaitListHead;  // 0x08  of KWAIT_BLOCK.WaitListEntry
} DISPATCHER_HEADER;

typedef struct _KEVENT {     // 0x18
  DISPATCHER_HEADER Header;  // 0x00
} KEVENT;

typedef struct _KGATE {      // 0x18
  DISPATCHER_HEADER Header;  // 0x00
} KGATE;

typedef struct _KSEMAPHORE {  // 0x20
  DISPATCHER_HEADER Header;   // 0x00
  LONG Limit;                 // 0x18
} KSEMAPHORE;

typedef struct _KMUTANT {      // 0x38
  DISPATCHER_HEADER Header;    // 0x00
  LIST_ENTRY MutantListEntry;  // 0x18  in KTHREAD.MutantListHead of the owner
  KTHREAD* OwnerThread;        // 0x28
  UCHAR Abandoned;             // 0x30  bits 0 1
  UCHAR ApcDisable;            // 0x31
} KMUTANT;

typedef struct _KQUEUE {      // 0x40
  DISPATCHER_HEADER Header;   // 0x00
  LIST_ENTRY EntryListHead;   // 0x18
  ULONG CurrentCount;         // 0x28
  ULONG MaximumCount;         // 0x2c
  LIST_ENTRY ThreadListHead;  // 0x30
} KQUEUE;

// The queue of the executive's worker threads since Windows 8.1: one list a priority.
typedef struct _KPRIQUEUE {      // 0x2b0
  DISPATCHER_HEADER Header;      // 0x000
  LIST_ENTRY EntryListHead[32];  // 0x018
  LONG CurrentCount[32];         // 0x218
  ULONG MaximumCount;            // 0x298
  LIST_ENTRY ThreadListHead;     // 0x2a0
} KPRIQUEUE;

typedef struct _KDPC {  // 0x40
  union {
    ULONG TargetInfoAsUlong;  // 0x00
    struct {
      UCHAR Type;        // 0x00
      UCHAR Importance;  // 0x01
      USHORT Number;     // 0x02
    };
  };
  SINGLE_LIST_ENTRY DpcListEntry;  // 0x08
  ULONG64 ProcessorHistory;        // 0x10
  PVOID DeferredRoutine;           // 0x18
  PVOID DeferredContext;           // 0x20
  PVOID SystemArgument1;           // 0x28
  PVOID SystemArgument2;           // 0x30
  PVOID DpcData;                   // 0x38
} KDPC;

typedef struct _KTIMER {      // 0x40
  DISPATCHER_HEADER Header;   // 0x00
  ULARGE_INTEGER DueTime;     // 0x18  interrupt time
  LIST_ENTRY TimerListEntry;  // 0x20
  KDPC* Dpc;                  // 0x30
  USHORT Processor;           // 0x38
  USHORT TimerType;           // 0x3a
  ULONG Period;               // 0x3c
} KTIMER;

// Which thread waits for which object. A thread has four of its own (KTHREAD.WaitBlock); the last one is for
// its timer.
typedef struct _KWAIT_BLOCK {  // 0x30
  LIST_ENTRY WaitListEntry;    // 0x00  in the object's WaitListHead
  UCHAR WaitType;              // 0x10
  UCHAR BlockState;            // 0x11
  USHORT WaitKey;              // 0x12
  LONG SpareLong;              // 0x14  in a thread's own blocks other members of KTHREAD lie here
  KTHREAD* Thread;             // 0x18
  PVOID Object;                // 0x20
  PVOID SparePtr;              // 0x28
} KWAIT_BLOCK;

typedef struct _KAPC {      // 0x58
  UCHAR Type;               // 0x00
  UCHAR SpareByte0;         // 0x01
  UCHAR Size;               // 0x02
  UCHAR SpareByte1;         // 0x03
  ULONG SpareLong0;         // 0x04
  KTHREAD* Thread;          // 0x08
  LIST_ENTRY ApcListEntry;  // 0x10
  PVOID KernelRoutine;      // 0x20
  PVOID RundownRoutine;     // 0x28
  PVOID NormalRoutine;      // 0x30
  PVOID NormalContext;      // 0x38
  PVOID SystemArgument1;    // 0x40
  PVOID SystemArgument2;    // 0x48
  UCHAR ApcStateIndex;      // 0x50
  UCHAR ApcMode;            // 0x51
  UCHAR Inserted;           // 0x52
} KAPC;

typedef struct _KAPC_STATE {  // 0x30
  LIST_ENTRY ApcListHead[2];  // 0x00
  KPROCESS* Process;          // 0x20
  UCHAR InProgressFlags;      // 0x28
  UCHAR KernelApcPending;     // 0x29
  UCHAR UserApcPendingAll;    // 0x2a
} KAPC_STATE;

// KTHREAD is dense: small members lie in the unused tails of its arrays. Where the real structure has a
// "Fill" array with a member behind it, so has this one.
struct _KTHREAD {            // 0x430
  DISPATCHER_HEADER Header;  // 0x000
  PVOID SListFaultAddress;   // 0x018
  ULONG64 QuantumTarget;     // 0x020
  PVOID InitialStack;        // 0x028
  PVOID StackLimit;          // 0x030
  PVOID StackBase;           // 0x038
  ULONG64 ThreadLock;        // 0x040
  ULONG64 CycleTime;         // 0x048
  ULONG CurrentRunTime;      // 0x050
  ULONG ExpectedRunTime;     // 0x054
  PVOID KernelStack;         // 0x058  where a thread that does not run left its switch frame
  PVOID StateSaveArea;       // 0x060
  PVOID SchedulingGroup;     // 0x068
  UCHAR WaitRegister;        // 0x070
  UCHAR Running;             // 0x071
  UCHAR Alerted[2];          // 0x072
  union {
    LONG MiscFlags;  // 0x074
    struct {
      ULONG AutoBoostActive : 1;          // 0x074  bits 0 1
      ULONG ReadyTransition : 1;          // 0x074  bits 1 1
      ULONG WaitNext : 1;                 // 0x074  bits 2 1
      ULONG SystemAffinityActive : 1;     // 0x074  bits 3 1
      ULONG Alertable : 1;                // 0x074  bits 4 1
      ULONG UserStackWalkActive : 1;      // 0x074  bits 5 1
      ULONG ApcInterruptRequest : 1;      // 0x074  bits 6 1
      ULONG QuantumEndMigrate : 1;        // 0x074  bits 7 1
      ULONG UmsDirectedSwitchEnable : 1;  // 0x074  bits 8 1
      ULONG TimerActive : 1;              // 0x074  bits 9 1
      ULONG SystemThread : 1;             // 0x074  bits 10 1
      ULONG ProcessDetachActive : 1;      // 0x074  bits 11 1
    };
  };
  union {
    LONG ThreadFlags;  // 0x078
    struct {
      ULONG ThreadFlagsSpare : 2;           // 0x078  bits 0 2
      ULONG AutoAlignment : 1;              // 0x078  bits 2 1
      ULONG DisableBoost : 1;               // 0x078  bits 3 1
      ULONG AlertedByThreadId : 1;          // 0x078  bits 4 1
      ULONG QuantumDonation : 1;            // 0x078  bits 5 1
      ULONG EnableStackSwap : 1;            // 0x078  bits 6 1
      ULONG GuiThread : 1;                  // 0x078  bits 7 1
      ULONG DisableQuantum : 1;             // 0x078  bits 8 1
      ULONG ChargeOnlySchedulingGroup : 1;  // 0x078  bits 9 1
      ULONG DeferPreemption : 1;            // 0x078  bits 10 1
      ULONG QueueDeferPreemption : 1;       // 0x078  bits 11 1
      ULONG ForceDeferSchedule : 1;         // 0x078  bits 12 1
      ULONG SharedReadyQueueAffinity : 1;   // 0x078  bits 13 1
      ULONG FreezeCount : 1;                // 0x078  bits 14 1
      ULONG TerminationApcRequest : 1;      // 0x078  bits 15 1
      ULONG AutoBoostEntriesExhausted : 1;  // 0x078  bits 16 1
      ULONG KernelStackResident : 1;        // 0x078  bits 17 1
    };
  };
  UCHAR Tag;                    // 0x07c
  UCHAR SystemHeteroCpuPolicy;  // 0x07d
  UCHAR Unused07e[2];
  ULONG SystemCallNumber;          // 0x080
  ULONG ReadyTime;                 // 0x084
  PVOID FirstArgument;             // 0x088
  struct _KTRAP_FRAME* TrapFrame;  // 0x090
  union {
    KAPC_STATE ApcState;  // 0x098
    struct {
      UCHAR ApcStateFill[43];    // 0x098
      CHAR Priority;             // 0x0c3
      ULONG UserIdealProcessor;  // 0x0c4
    };
  };
  LONG64 WaitStatus;           // 0x0c8
  KWAIT_BLOCK* WaitBlockList;  // 0x0d0
  LIST_ENTRY WaitListEntry;    // 0x0d8
  DISPATCHER_HEADER* Queue;    // 0x0e8
  PVOID Teb;                   // 0x0f0
  ULONG64 RelativeTimerBias;   // 0x0f8
  KTIMER Timer;                // 0x100
  union {
    KWAIT_BLOCK WaitBlock[4];  // 0x140
    struct {
      UCHAR WaitBlockFill4[20];  // 0x140
      ULONG ContextSwitches;     // 0x154
    };
    struct {
      UCHAR WaitBlockFill5[68];  // 0x140
      UCHAR State;               // 0x184
      CHAR Spare13;              // 0x185
      UCHAR WaitIrql;            // 0x186
      CHAR WaitMode;             // 0x187
    };
    struct {
      UCHAR WaitBlockFill6[116];  // 0x140
      ULONG WaitTime;             // 0x1b4
    };
    struct {
      UCHAR WaitBlockFill7[164];  // 0x140
      SHORT KernelApcDisable;     // 0x1e4
      SHORT SpecialApcDisable;    // 0x1e6
    };
    struct {
      UCHAR WaitBlockFill8[40];  // 0x140
      PVOID ThreadCounters;      // 0x168
    };
    struct {
      UCHAR WaitBlockFill9[88];  // 0x140
      PVOID XStateSave;          // 0x198
    };
    struct {
      UCHAR WaitBlockFill10[136];  // 0x140
      PVOID Win32Thread;           // 0x1c8
    };
  };
  UCHAR Unused200[8];
  LIST_ENTRY QueueListEntry;  // 0x208
  union {
    ULONG NextProcessor;  // 0x218
    struct {
      ULONG NextProcessorNumber : 31;  // 0x218  bits 0 31
      ULONG SharedReadyQueue : 1;      // 0x218  bits 31 1
    };
  };
  LONG QueuePriority;  // 0x21c
  KPROCESS* Process;   // 0x220
  UCHAR Unused228[10];
  CHAR PreviousMode;        // 0x232
  CHAR BasePriority;        // 0x233
  UCHAR PriorityDecrement;  // 0x234
  UCHAR Preempted;          // 0x235
  UCHAR AdjustReason;       // 0x236
  CHAR AdjustIncrement;     // 0x237
  ULONG64 AffinityVersion;  // 0x238
  UCHAR Unused240[10];
  UCHAR ApcStateIndex;   // 0x24a
  UCHAR WaitBlockCount;  // 0x24b
  ULONG IdealProcessor;  // 0x24c
  ULONG64 NpxState;      // 0x250
  union {
    KAPC_STATE SavedApcState;  // 0x258
    struct {
      UCHAR SavedApcStateFill[43];  // 0x258
      UCHAR WaitReason;             // 0x283
      CHAR SuspendCount;            // 0x284
      CHAR Saturation;              // 0x285
      USHORT SListFaultCount;       // 0x286
    };
  };
  union {
    KAPC SchedulerApc;  // 0x288
    struct {
      UCHAR SchedulerApcFill1[3];  // 0x288
      UCHAR QuantumReset;          // 0x28b
      ULONG KernelTime;            // 0x28c  clock ticks
    };
    struct {
      UCHAR SchedulerApcFill3[64];  // 0x288
      KPRCB* WaitPrcb;              // 0x2c8
    };
    struct {
      UCHAR SchedulerApcFill5[83];  // 0x288
      UCHAR CallbackNestingLevel;   // 0x2db
      ULONG UserTime;               // 0x2dc  clock ticks
    };
  };
  KEVENT SuspendEvent;         // 0x2e0
  LIST_ENTRY ThreadListEntry;  // 0x2f8  in KPROCESS.ThreadListHead
  LIST_ENTRY MutantListHead;   // 0x308
  UCHAR AbEntrySummary;        // 0x318
  UCHAR AbWaitEntryCount;      // 0x319
  UCHAR Unused31a[6];
  PVOID LockEntries;  // 0x320
  UCHAR Unused328[0x430 - 0x328];
};

struct _KPROCESS {             // 0x438
  DISPATCHER_HEADER Header;    // 0x000
  LIST_ENTRY ProfileListHead;  // 0x018
  ULONG64 DirectoryTableBase;  // 0x028
  LIST_ENTRY ThreadListHead;   // 0x030
  ULONG ProcessLock;           // 0x040
  UCHAR Unused044[0x158 - 0x44];
  LIST_ENTRY ReadyListHead;  // 0x158
  UCHAR Unused168[0x278 - 0x168];
  LONG ProcessFlags;       // 0x278
  ULONG ActiveGroupsMask;  // 0x27c
  CHAR BasePriority;       // 0x280
  CHAR QuantumReset;       // 0x281
  UCHAR Unused282[0x350 - 0x282];
  LIST_ENTRY ProcessListEntry;     // 0x350
  ULONG64 CycleTime;               // 0x360
  ULONG64 ContextSwitches;         // 0x368
  PVOID SchedulingGroup;           // 0x370
  ULONG FreezeCount;               // 0x378
  ULONG KernelTime;                // 0x37c
  ULONG UserTime;                  // 0x380
  ULONG ReadyTime;                 // 0x384
  ULONG64 UserDirectoryTableBase;  // 0x388  0: no KVA shadow
  UCHAR Unused390[0x438 - 0x390];
};

// ---- traps and switches ----

typedef struct _M128A {  // 0x10
  ULONG64 Low;           // 0x00
  LONG64 High;           // 0x08
} M128A;

typedef struct _KTRAP_FRAME {  // 0x190
  ULONG64 P1Home;              // 0x000
  ULONG64 P2Home;              // 0x008
  ULONG64 P3Home;              // 0x010
  ULONG64 P4Home;              // 0x018
  ULONG64 P5;                  // 0x020
  CHAR PreviousMode;           // 0x028
  UCHAR PreviousIrql;          // 0x029
  UCHAR FaultIndicator;        // 0x02a
  UCHAR ExceptionActive;       // 0x02b
  ULONG MxCsr;                 // 0x02c
  ULONG64 Rax;                 // 0x030
  ULONG64 Rcx;                 // 0x038
  ULONG64 Rdx;                 // 0x040
  ULONG64 R8;                  // 0x048
  ULONG64 R9;                  // 0x050
  ULONG64 R10;                 // 0x058
  ULONG64 R11;                 // 0x060
  ULONG64 GsBase;              // 0x068
  M128A Xmm0;                  // 0x070
  M128A Xmm1;                  // 0x080
  M128A Xmm2;                  // 0x090
  M128A Xmm3;                  // 0x0a0
  M128A Xmm4;                  // 0x0b0
  M128A Xmm5;                  // 0x0c0
  ULONG64 FaultAddress;        // 0x0d0
  ULONG64 Dr0;                 // 0x0d8
  UCHAR Unused0e0[0x130 - 0xe0];
  USHORT SegDs;       // 0x130
  USHORT SegEs;       // 0x132
  USHORT SegFs;       // 0x134
  USHORT SegGs;       // 0x136
  ULONG64 TrapFrame;  // 0x138
  ULONG64 Rbx;        // 0x140
  ULONG64 Rdi;        // 0x148
  ULONG64 Rsi;        // 0x150
  ULONG64 Rbp;        // 0x158
  ULONG64 ErrorCode;  // 0x160
  ULONG64 Rip;        // 0x168  from here on as the processor pushes it
  USHORT SegCs;       // 0x170
  UCHAR Fill0;        // 0x172
  UCHAR Logging;      // 0x173
  USHORT Fill1[2];    // 0x174
  ULONG EFlags;       // 0x178
  ULONG Fill2;        // 0x17c
  ULONG64 Rsp;        // 0x180
  USHORT SegSs;       // 0x188
  USHORT Fill3;       // 0x18a
  ULONG Fill4;        // 0x18c
} KTRAP_FRAME;

// What SwapContext leaves at KTHREAD.KernelStack. Not in public PDBs; the shape is known from published
// stacks (first Child-SP = KernelStack + 0x40) and from the ReactOS NDK headers.
typedef struct _KSWITCH_FRAME {
  ULONG64 P1Home;   // 0x00
  ULONG64 P2Home;   // 0x08
  ULONG64 P3Home;   // 0x10
  ULONG64 P4Home;   // 0x18
  ULONG64 P5Home;   // 0x20
  ULONG MxCsr;      // 0x28
  UCHAR ApcBypass;  // 0x2c
  UCHAR Fill1[3];   // 0x2d
  ULONG64 Rbp;      // 0x30
  ULONG64 Return;   // 0x38
} KSWITCH_FRAME;

// CONTEXT of the public header winnt.h.
typedef struct _CONTEXT {
  ULONG64 P1Home;  // 0x000
  UCHAR Unused008[0x28];
  ULONG ContextFlags;           // 0x030
  ULONG MxCsr;                  // 0x034
  USHORT SegCs;                 // 0x038
  USHORT SegDs;                 // 0x03a
  USHORT SegEs;                 // 0x03c
  USHORT SegFs;                 // 0x03e
  USHORT SegGs;                 // 0x040
  USHORT SegSs;                 // 0x042
  ULONG EFlags;                 // 0x044
  ULONG64 Dr[6];                // 0x048
  ULONG64 Rax;                  // 0x078
  ULONG64 Rcx;                  // 0x080
  ULONG64 Rdx;                  // 0x088
  ULONG64 Rbx;                  // 0x090
  ULONG64 Rsp;                  // 0x098
  ULONG64 Rbp;                  // 0x0a0
  ULONG64 Rsi;                  // 0x0a8
  ULONG64 Rdi;                  // 0x0b0
  ULONG64 R8To15[8];            // 0x0b8
  ULONG64 Rip;                  // 0x0f8
  UCHAR FltSave[0x200];         // 0x100
  UCHAR VectorRegister[0x1a0];  // 0x300
  ULONG64 VectorControl;        // 0x4a0
  UCHAR Unused4a8[0x28];
} CONTEXT;

// ---- processors ----

typedef struct _KDESCRIPTOR {  // 0x10
  USHORT Pad[3];               // 0x00
  USHORT Limit;                // 0x06
  PVOID Base;                  // 0x08
} KDESCRIPTOR;

typedef struct _KSPECIAL_REGISTERS {  // 0xf0
  ULONG64 Cr0;                        // 0x00
  ULONG64 Cr2;                        // 0x08
  ULONG64 Cr3;                        // 0x10
  ULONG64 Cr4;                        // 0x18
  ULONG64 KernelDr0;                  // 0x20
  ULONG64 KernelDr1;                  // 0x28
  ULONG64 KernelDr2;                  // 0x30
  ULONG64 KernelDr3;                  // 0x38
  ULONG64 KernelDr6;                  // 0x40
  ULONG64 KernelDr7;                  // 0x48
  KDESCRIPTOR Gdtr;                   // 0x50
  KDESCRIPTOR Idtr;                   // 0x60
  USHORT Tr;                          // 0x70
  USHORT Ldtr;                        // 0x72
  ULONG MxCsr;                        // 0x74
  UCHAR Unused078[0xa0 - 0x78];
  ULONG64 Cr8;              // 0xa0
  ULONG64 MsrGsBase;        // 0xa8
  ULONG64 MsrGsSwap;        // 0xb0
  ULONG64 MsrStar;          // 0xb8
  ULONG64 MsrLStar;         // 0xc0
  ULONG64 MsrCStar;         // 0xc8
  ULONG64 MsrSyscallMask;   // 0xd0
  ULONG64 Xcr0;             // 0xd8
  ULONG64 MsrFsBase;        // 0xe0
  ULONG64 SpecialPadding0;  // 0xe8
} KSPECIAL_REGISTERS;

typedef struct _KPROCESSOR_STATE {      // 0x5c0
  KSPECIAL_REGISTERS SpecialRegisters;  // 0x000
  CONTEXT ContextFrame;                 // 0x0f0
} KPROCESSOR_STATE;

typedef struct _KSPIN_LOCK_QUEUE {  // 0x10
  struct _KSPIN_LOCK_QUEUE* Next;   // 0x00
  ULONG64* Lock;                    // 0x08
} KSPIN_LOCK_QUEUE;

struct _KPRCB {              // 0xaf00
  ULONG MxCsr;               // 0x0000
  UCHAR LegacyNumber;        // 0x0004
  UCHAR ReservedMustBeZero;  // 0x0005
  UCHAR InterruptRequest;    // 0x0006
  UCHAR IdleHalt;            // 0x0007
  KTHREAD* CurrentThread;    // 0x0008
  KTHREAD* NextThread;       // 0x0010
  KTHREAD* IdleThread;       // 0x0018
  UCHAR NestingLevel;        // 0x0020
  UCHAR ClockOwner;          // 0x0021
  UCHAR PendingTickFlags;    // 0x0022
  UCHAR IdleState;           // 0x0023
  ULONG Number;              // 0x0024
  ULONG64 RspBase;           // 0x0028  where SYSCALL puts the stack pointer: gs:[1a8h]
  ULONG64 PrcbLock;          // 0x0030
  PVOID PriorityState;       // 0x0038
  UCHAR CpuType;             // 0x0040
  UCHAR CpuID;               // 0x0041
  USHORT CpuStep;            // 0x0042
  ULONG MHz;                 // 0x0044
  ULONG64 HalReserved[8];    // 0x0048
  USHORT MinorVersion;       // 0x0088
  USHORT MajorVersion;       // 0x008a
  UCHAR Unused08c[0xd4 - 0x8c];
  ULONG InitialApicId;  // 0x00d4
  UCHAR Unused0d8[0x100 - 0xd8];
  KPROCESSOR_STATE ProcessorState;  // 0x0100
  UCHAR Unused6c0[0x6f0 - 0x6c0];
  KSPIN_LOCK_QUEUE LockQueue[17];  // 0x06f0
  UCHAR Unused800[0x2d38 - 0x800];
  ULONG KeSystemCalls;      // 0x2d38
  ULONG KeContextSwitches;  // 0x2d3c
  UCHAR Unused2d40[0x312a - 0x2d40];
  UCHAR DpcRoutineActive;  // 0x312a
  UCHAR IdleSchedule;      // 0x312b
  LONG DpcRequestSummary;  // 0x312c
  UCHAR Unused3130[0x3134 - 0x3130];
  ULONG LastTick;         // 0x3134
  ULONG ClockInterrupts;  // 0x3138
  UCHAR Unused313c[0x7c00 - 0x313c];
  LIST_ENTRY WaitListHead;  // 0x7c00
  ULONG64 WaitLock;         // 0x7c10
  ULONG ReadySummary;       // 0x7c18  one bit for each list below that is not empty
  UCHAR Unused7c1c[0x7c80 - 0x7c1c];
  LIST_ENTRY DispatcherReadyListHead[32];  // 0x7c80
  ULONG InterruptCount;                    // 0x7e80
  ULONG KernelTime;                        // 0x7e84
  ULONG UserTime;                          // 0x7e88
  ULONG DpcTime;                           // 0x7e8c
  ULONG InterruptTime;                     // 0x7e90
  UCHAR Unused7e94[0x8590 - 0x7e94];
  UCHAR VendorString[13];  // 0x8590
  UCHAR Unused859d[3];
  ULONG64 FeatureBits;  // 0x85a0
  UCHAR Unused85a8[0x85c0 - 0x85a8];
  CONTEXT* Context;        // 0x85c0  where a crash dump saves this processor's registers
  ULONG ContextFlagsInit;  // 0x85c8
  UCHAR Unused85cc[0x8e80 - 0x85cc];
  ULONG64 KernelDirectoryTableBase;  // 0x8e80
  ULONG64 RspBaseShadow;             // 0x8e88
  ULONG64 UserRspShadow;             // 0x8e90
  ULONG ShadowFlags;                 // 0x8e98
  UCHAR Unused8e9c[0xaf00 - 0x8e9c];
};

typedef struct _KPCR {                  // 0xb080
  PVOID GdtBase;                        // 0x000
  PVOID TssBase;                        // 0x008
  ULONG64 UserRsp;                      // 0x010  where SYSCALL keeps the user's stack pointer for a moment
  struct _KPCR* Self;                   // 0x018
  KPRCB* CurrentPrcb;                   // 0x020
  KSPIN_LOCK_QUEUE* LockArray;          // 0x028
  PVOID Used_Self;                      // 0x030
  PVOID IdtBase;                        // 0x038
  ULONG64 Unused[2];                    // 0x040
  UCHAR Irql;                           // 0x050
  UCHAR SecondLevelCacheAssociativity;  // 0x051
  UCHAR ObsoleteNumber;                 // 0x052
  UCHAR Fill0;                          // 0x053
  ULONG Unused0[3];                     // 0x054
  USHORT MajorVersion;                  // 0x060
  USHORT MinorVersion;                  // 0x062
  ULONG StallScaleFactor;               // 0x064
  UCHAR Unused068[0x108 - 0x68];
  PVOID KdVersionBlock;  // 0x108
  UCHAR Unused110[0x180 - 0x110];
  KPRCB Prcb;  // 0x180
} KPCR;

// ---- KUSER_SHARED_DATA: one page at a fixed address in the kernel and, read-only, at 0x7ffe0000 in
// processes ----

typedef struct _KSYSTEM_TIME {  // 0x0c
  ULONG LowPart;                // 0x00
  LONG High1Time;               // 0x04
  LONG High2Time;               // 0x08
} KSYSTEM_TIME;

typedef struct _KUSER_SHARED_DATA {  // 0x720
  ULONG TickCountLowDeprecated;      // 0x000
  ULONG TickCountMultiplier;         // 0x004  milliseconds a tick, 24 fractional bits
  KSYSTEM_TIME InterruptTime;        // 0x008  100 ns since the start
  KSYSTEM_TIME SystemTime;           // 0x014  100 ns since 1601
  KSYSTEM_TIME TimeZoneBias;         // 0x020
  USHORT ImageNumberLow;             // 0x02c
  USHORT ImageNumberHigh;            // 0x02e
  WCHAR NtSystemRoot[260];           // 0x030
  UCHAR Unused238[0x260 - 0x238];
  ULONG NtBuildNumber;                 // 0x260
  ULONG NtProductType;                 // 0x264
  UCHAR ProductTypeIsValid;            // 0x268
  UCHAR Reserved0[1];                  // 0x269
  USHORT NativeProcessorArchitecture;  // 0x26a
  ULONG NtMajorVersion;                // 0x26c
  ULONG NtMinorVersion;                // 0x270
  UCHAR ProcessorFeatures[64];         // 0x274
  UCHAR Unused2b4[0x2d0 - 0x2b4];
  ULONG SuiteMask;          // 0x2d0
  UCHAR KdDebuggerEnabled;  // 0x2d4
  UCHAR Unused2d5[0x2e8 - 0x2d5];
  ULONG NumberOfPhysicalPages;  // 0x2e8
  UCHAR Unused2ec[0x308 - 0x2ec];
  ULONG SystemCall;  // 0x308  0: SYSCALL, not INT 2E
  UCHAR Unused30c[0x320 - 0x30c];
  union {
    KSYSTEM_TIME TickCount;  // 0x320
    ULONG64 TickCountQuad;   // 0x320
  };
  UCHAR Unused330[0x3c0 - 0x330];
  ULONG ActiveProcessorCount;  // 0x3c0
  UCHAR ActiveGroupCount;      // 0x3c4
  UCHAR Unused3c5[0x720 - 0x3c5];
} KUSER_SHARED_DATA;

#define KI_USER_SHARED_DATA 0xFFFFF78000000000ull
#define MM_SHARED_USER_DATA_VA 0x7FFE0000ull
#define SharedUserData ((KUSER_SHARED_DATA*)KI_USER_SHARED_DATA)

// 64 ticks a second.
#define CLOCK_INCREMENT 156250
