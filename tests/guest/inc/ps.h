// Processes and threads ("Ps"), the loader's lists, and what user mode keeps of them (PEB, TEB).
#pragma once
#include "io.h"
#include "mm.h"

typedef struct _ETHREAD {    // 0x898
  KTHREAD Tcb;               // 0x000
  LARGE_INTEGER CreateTime;  // 0x430
  union {
    LARGE_INTEGER ExitTime;     // 0x438
    LIST_ENTRY KeyedWaitChain;  // 0x438
  };
  PVOID ForwardLinkShadow;         // 0x448
  PVOID StartAddress;              // 0x450
  PVOID TerminationPort;           // 0x458
  ULONG64 ActiveTimerListLock;     // 0x460
  LIST_ENTRY ActiveTimerListHead;  // 0x468
  CLIENT_ID Cid;                   // 0x478
  union {
    KSEMAPHORE KeyedWaitSemaphore;  // 0x488
    KSEMAPHORE AlpcWaitSemaphore;   // 0x488
  };
  PVOID ClientSecurity;           // 0x4a8
  LIST_ENTRY IrpList;             // 0x4b0  of IRP.ThreadListEntry
  ULONG64 TopLevelIrp;            // 0x4c0
  DEVICE_OBJECT* DeviceToVerify;  // 0x4c8
  PVOID Win32StartAddress;        // 0x4d0
  PVOID ChargeOnlySession;        // 0x4d8
  PVOID LegacyPowerObject;        // 0x4e0
  LIST_ENTRY ThreadListEntry;     // 0x4e8  in EPROCESS.ThreadListHead
  ULONG64 RundownProtect;         // 0x4f8
  EX_PUSH_LOCK ThreadLock;        // 0x500
  ULONG ReadClusterSize;          // 0x508
  LONG MmLockOrdering;            // 0x50c
  union {
    ULONG CrossThreadFlags;  // 0x510
    struct {
      ULONG Terminated : 1;      // 0x510  bits 0 1
      ULONG ThreadInserted : 1;  // 0x510  bits 1 1
    };
  };
  ULONG SameThreadPassiveFlags;  // 0x514
  ULONG SameThreadApcFlags;      // 0x518
  UCHAR Unused51c[0x528 - 0x51c];
  ULONG64 AlpcMessageId;         // 0x528
  PVOID AlpcMessage;             // 0x530
  LIST_ENTRY AlpcWaitListEntry;  // 0x538
  NTSTATUS ExitStatus;           // 0x548
  UCHAR Unused54c[0x588 - 0x54c];
  ULONG64 IrpListLock;  // 0x588
  UCHAR Unused590[0x610 - 0x590];
  UNICODE_STRING* ThreadName;  // 0x610
  PVOID SetContextState;       // 0x618
  UCHAR Unused620[8];
  LIST_ENTRY OwnerEntryListHead;          // 0x628
  ULONG64 DisownedOwnerEntryListLock;     // 0x638
  LIST_ENTRY DisownedOwnerEntryListHead;  // 0x640
  UCHAR LockEntries[6 * 0x60];            // 0x650
  PVOID CmDbgInfo;                        // 0x890
} ETHREAD;

typedef struct _SE_AUDIT_PROCESS_CREATION_INFO {  // 0x08
  OBJECT_NAME_INFORMATION* ImageFileName;         // 0x00
} SE_AUDIT_PROCESS_CREATION_INFO;

typedef struct _EPROCESS {        // 0xa40
  KPROCESS Pcb;                   // 0x000
  EX_PUSH_LOCK ProcessLock;       // 0x438
  PVOID UniqueProcessId;          // 0x440
  LIST_ENTRY ActiveProcessLinks;  // 0x448  in PsActiveProcessHead
  ULONG64 RundownProtect;         // 0x458
  ULONG Flags2;                   // 0x460
  ULONG Flags;                    // 0x464
  LARGE_INTEGER CreateTime;       // 0x468
  UCHAR Unused470[0x490 - 0x470];
  ULONG64 PeakVirtualSize;         // 0x490
  ULONG64 VirtualSize;             // 0x498
  LIST_ENTRY SessionProcessLinks;  // 0x4a0
  PVOID ExceptionPortData;         // 0x4b0
  EX_FAST_REF Token;               // 0x4b8
  UCHAR Unused4c0[0x508 - 0x4c0];
  PVOID Win32Process;        // 0x508
  PVOID Job;                 // 0x510
  PVOID SectionObject;       // 0x518
  PVOID SectionBaseAddress;  // 0x520
  ULONG Cookie;              // 0x528
  UCHAR Unused52c[0x540 - 0x52c];
  PVOID InheritedFromUniqueProcessId;                         // 0x540
  ULONG64 OwnerProcessId;                                     // 0x548
  struct _PEB* Peb;                                           // 0x550
  MM_SESSION_SPACE* Session;                                  // 0x558
  PVOID Spare1;                                               // 0x560
  PVOID QuotaBlock;                                           // 0x568
  HANDLE_TABLE* ObjectTable;                                  // 0x570
  PVOID DebugPort;                                            // 0x578
  PVOID WoW64Process;                                         // 0x580
  PVOID DeviceMap;                                            // 0x588
  PVOID EtwDataSource;                                        // 0x590
  ULONG64 PageDirectoryPte;                                   // 0x598
  FILE_OBJECT* ImageFilePointer;                              // 0x5a0
  UCHAR ImageFileName[15];                                    // 0x5a8
  UCHAR PriorityClass;                                        // 0x5b7
  PVOID SecurityPort;                                         // 0x5b8
  SE_AUDIT_PROCESS_CREATION_INFO SeAuditProcessCreationInfo;  // 0x5c0
  LIST_ENTRY JobLinks;                                        // 0x5c8
  PVOID HighestUserAddress;                                   // 0x5d8
  LIST_ENTRY ThreadListHead;                                  // 0x5e0
  ULONG ActiveThreads;                                        // 0x5f0
  UCHAR Unused5f4[0x640 - 0x5f4];
  ULONG64 CommitChargeLimit;  // 0x640
  ULONG64 CommitCharge;       // 0x648
  ULONG64 CommitChargePeak;   // 0x650
  UCHAR Unused658[0x7c0 - 0x658];
  LIST_ENTRY MmProcessLinks;  // 0x7c0
  ULONG ModifiedPageCount;    // 0x7d0
  NTSTATUS ExitStatus;        // 0x7d4
  RTL_AVL_TREE VadRoot;       // 0x7d8
  UCHAR Unused7e0[0x840 - 0x7e0];
  LARGE_INTEGER ExitTime;  // 0x840
  UCHAR Unused848[0x858 - 0x848];
  ULONG ActiveThreadsHighWatermark;  // 0x858
  UCHAR Unused85c[0x8f8 - 0x85c];
  ULONG64 SequenceNumber;       // 0x8f8
  ULONG64 CreateInterruptTime;  // 0x900
  UCHAR Unused908[0xa40 - 0x908];
} EPROCESS;

// ---- loaded images ----

// The kernel's entries, in PsLoadedModuleList.
typedef struct _KLDR_DATA_TABLE_ENTRY {  // 0xa0
  LIST_ENTRY InLoadOrderLinks;           // 0x00
  PVOID ExceptionTable;                  // 0x10
  ULONG ExceptionTableSize;              // 0x18
  PVOID GpValue;                         // 0x20
  PVOID NonPagedDebugInfo;               // 0x28
  PVOID DllBase;                         // 0x30
  PVOID EntryPoint;                      // 0x38
  ULONG SizeOfImage;                     // 0x40
  UNICODE_STRING FullDllName;            // 0x48
  UNICODE_STRING BaseDllName;            // 0x58
  ULONG Flags;                           // 0x68
  USHORT LoadCount;                      // 0x6c
  USHORT SignatureLevel;
  PVOID SectionPointer;         // 0x70
  ULONG CheckSum;               // 0x78
  ULONG CoverageSectionSize;    // 0x7c
  PVOID CoverageSection;        // 0x80
  PVOID LoadedImports;          // 0x88
  PVOID Spare;                  // 0x90
  ULONG SizeOfImageNotRounded;  // 0x98
  ULONG TimeDateStamp;          // 0x9c
} KLDR_DATA_TABLE_ENTRY;

// A process's entries, in PEB_LDR_DATA.
typedef struct _LDR_DATA_TABLE_ENTRY {    // 0x120
  LIST_ENTRY InLoadOrderLinks;            // 0x000
  LIST_ENTRY InMemoryOrderLinks;          // 0x010
  LIST_ENTRY InInitializationOrderLinks;  // 0x020
  PVOID DllBase;                          // 0x030
  PVOID EntryPoint;                       // 0x038
  ULONG SizeOfImage;                      // 0x040
  UNICODE_STRING FullDllName;             // 0x048
  UNICODE_STRING BaseDllName;             // 0x058
  ULONG Flags;                            // 0x068
  USHORT ObsoleteLoadCount;               // 0x06c
  USHORT TlsIndex;                        // 0x06e
  LIST_ENTRY HashLinks;                   // 0x070
  ULONG TimeDateStamp;                    // 0x080
  UCHAR Unused088[0x120 - 0x88];
} LDR_DATA_TABLE_ENTRY;

typedef struct _PEB_LDR_DATA {                 // 0x58
  ULONG Length;                                // 0x00
  UCHAR Initialized;                           // 0x04
  PVOID SsHandle;                              // 0x08
  LIST_ENTRY InLoadOrderModuleList;            // 0x10
  LIST_ENTRY InMemoryOrderModuleList;          // 0x20
  LIST_ENTRY InInitializationOrderModuleList;  // 0x30
  PVOID EntryInProgress;                       // 0x40
  UCHAR ShutdownInProgress;                    // 0x48
  PVOID ShutdownThreadId;                      // 0x50
} PEB_LDR_DATA;

typedef struct _RTL_USER_PROCESS_PARAMETERS {  // 0x440
  ULONG MaximumLength;                         // 0x000
  ULONG Length;                                // 0x004
  ULONG Flags;                                 // 0x008
  ULONG DebugFlags;                            // 0x00c
  UCHAR Unused010[0x60 - 0x10];
  UNICODE_STRING ImagePathName;  // 0x060
  UNICODE_STRING CommandLine;    // 0x070
  PVOID Environment;             // 0x080
  UCHAR Unused088[0x440 - 0x88];
} RTL_USER_PROCESS_PARAMETERS;

typedef struct _PEB {                              // 0x7c8
  UCHAR InheritedAddressSpace;                     // 0x000
  UCHAR ReadImageFileExecOptions;                  // 0x001
  UCHAR BeingDebugged;                             // 0x002
  UCHAR BitField;                                  // 0x003
  PVOID Mutant;                                    // 0x008
  PVOID ImageBaseAddress;                          // 0x010
  PEB_LDR_DATA* Ldr;                               // 0x018
  RTL_USER_PROCESS_PARAMETERS* ProcessParameters;  // 0x020
  PVOID SubSystemData;                             // 0x028
  PVOID ProcessHeap;                               // 0x030
  UCHAR Unused038[0xb8 - 0x38];
  ULONG NumberOfProcessors;  // 0x0b8
  ULONG NtGlobalFlag;        // 0x0bc
  UCHAR Unused0c0[0x110 - 0xc0];
  PVOID LoaderLock;      // 0x110
  ULONG OSMajorVersion;  // 0x118
  ULONG OSMinorVersion;  // 0x11c
  USHORT OSBuildNumber;  // 0x120
  USHORT OSCSDVersion;   // 0x122
  UCHAR Unused124[0x2c0 - 0x124];
  ULONG SessionId;  // 0x2c0
  UCHAR Unused2c4[0x7c8 - 0x2c4];
} PEB;

typedef struct _NT_TIB {
  PVOID ExceptionList;
  PVOID StackBase;
  PVOID StackLimit;
  PVOID SubSystemTib;
  PVOID FiberData;
  PVOID ArbitraryUserPointer;
  struct _NT_TIB* Self;
} NT_TIB;

typedef struct _TEB {               // 0x1838
  NT_TIB NtTib;                     // 0x0000
  PVOID EnvironmentPointer;         // 0x0038
  CLIENT_ID ClientId;               // 0x0040
  PVOID ActiveRpcHandle;            // 0x0050
  PVOID ThreadLocalStoragePointer;  // 0x0058
  PEB* ProcessEnvironmentBlock;     // 0x0060
  ULONG LastErrorValue;             // 0x0068
  UCHAR Unused006c[0x1480 - 0x6c];
  PVOID TlsSlots[64];  // 0x1480
  UCHAR Unused1680[0x1838 - 0x1680];
} TEB;
