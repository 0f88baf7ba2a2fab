// Executive ("Ex"): resources, pool, work queues, handle tables.
#pragma once
#include "ke.h"

typedef struct _EX_PUSH_LOCK {  // 0x08
  ULONG64 Value;                // 0x00
} EX_PUSH_LOCK;

typedef struct _EX_FAST_REF {  // 0x08
  ULONG64 Value;               // 0x00  a pointer with a reference count in its low four bits
} EX_FAST_REF;

typedef struct _FAST_MUTEX {  // 0x38
  LONG Count;                 // 0x00
  PVOID Owner;                // 0x08
  ULONG Contention;           // 0x10
  KEVENT Event;               // 0x18
  ULONG OldIrql;              // 0x30
} FAST_MUTEX;

// ---- executive resources: the reader/writer locks of file systems ----

typedef struct _OWNER_ENTRY {  // 0x10
  ULONG64 OwnerThread;         // 0x00
  union {
    struct {
      ULONG IoPriorityBoosted : 1;     // 0x08  bits 0 1
      ULONG OwnerReferenced : 1;       // 0x08  bits 1 1
      ULONG IoQoSPriorityBoosted : 1;  // 0x08  bits 2 1
      ULONG OwnerCount : 29;           // 0x08  bits 3 29
    };
    ULONG TableSize;  // 0x08  of OwnerTable[0]: how many entries the table has
  };
} OWNER_ENTRY;

typedef struct _ERESOURCE {        // 0x68
  LIST_ENTRY SystemResourcesList;  // 0x00  in ExpSystemResourcesList
  OWNER_ENTRY* OwnerTable;         // 0x10
  SHORT ActiveCount;               // 0x18
  union {
    USHORT Flag;  // 0x1a
    struct {
      UCHAR ReservedLowFlags;  // 0x1a
      UCHAR WaiterPriority;    // 0x1b
    };
  };
  PVOID SharedWaiters;             // 0x20  KWAIT_CHAIN_ENTRY of the first waiter
  PVOID ExclusiveWaiters;          // 0x28
  OWNER_ENTRY OwnerEntry;          // 0x30  the exclusive owner, or one of the shared ones
  ULONG ActiveEntries;             // 0x40
  ULONG ContentionCount;           // 0x44
  ULONG NumberOfSharedWaiters;     // 0x48
  ULONG NumberOfExclusiveWaiters;  // 0x4c
  PVOID Reserved2;                 // 0x50
  PVOID Address;                   // 0x58
  ULONG64 SpinLock;                // 0x60
} ERESOURCE;

#define ResourceOwnedExclusive 0x80  // ERESOURCE.Flag, wdm.h

// One waiter, on its own kernel stack. Since build 17763 the entries of one kind form a ring without a head
// (seen in public crash dumps; the members are in the public PDBs).
typedef struct _KWAIT_CHAIN_ENTRY {  // 0x30
  LIST_ENTRY ListEntry;              // 0x00
  KTHREAD* Thread;                   // 0x10
  KEVENT Event;                      // 0x18
} KWAIT_CHAIN_ENTRY;

typedef struct _KWAIT_CHAIN {  // 0x08
  PVOID Head;                  // 0x00
} KWAIT_CHAIN;

// ---- pool ----

typedef struct _POOL_HEADER {  // 0x10
  union {
    ULONG Ulong1;  // 0x00
    struct {
      USHORT PreviousSize : 8;  // 0x00  bits 0 8
      USHORT PoolIndex : 8;     // 0x00  bits 8 8
      USHORT BlockSize : 8;     // 0x02  bits 0 8
      USHORT PoolType : 8;      // 0x02  bits 8 8
    };
  };
  ULONG PoolTag;          // 0x04
  ULONG64 ProcessBilled;  // 0x08
} POOL_HEADER;

enum _POOL_TYPE { NonPagedPool = 0, PagedPool = 1 };

// ---- work queues ----

typedef struct _WORK_QUEUE_ITEM {  // 0x20
  LIST_ENTRY List;                 // 0x00
  void (*WorkerRoutine)(PVOID);    // 0x10
  PVOID Parameter;                 // 0x18
} WORK_QUEUE_ITEM;

typedef struct _EX_WORK_QUEUE {      // 0x2e0
  KPRIQUEUE WorkPriQueue;            // 0x000
  PVOID Partition;                   // 0x2b0
  PVOID Node;                        // 0x2b8
  ULONG WorkItemsProcessed;          // 0x2c0
  ULONG WorkItemsProcessedLastPass;  // 0x2c4
  LONG ThreadCount;                  // 0x2c8
  LONG MinThreads;                   // 0x2cc  bits 0 31
  LONG MaxThreads;                   // 0x2d0
  ULONG QueueIndex;                  // 0x2d4
  KEVENT* AllThreadsExitedEvent;     // 0x2d8
} EX_WORK_QUEUE;

// ---- handle tables ----

typedef struct _HANDLE_TABLE_ENTRY {  // 0x10
  union {
    LONG64 LowValue;  // 0x00
    struct {
      ULONG64 Unlocked : 1;            // 0x00  bits 0 1
      ULONG64 RefCnt : 16;             // 0x00  bits 1 16
      ULONG64 Attributes : 3;          // 0x00  bits 17 3
      ULONG64 ObjectPointerBits : 44;  // 0x00  bits 20 44
    };
  };
  union {
    LONG64 HighValue;  // 0x08
    struct {
      ULONG GrantedAccessBits : 25;  // 0x08  bits 0 25
      ULONG NoRightsUpgrade : 1;     // 0x08  bits 25 1
      ULONG Spare1 : 6;              // 0x08  bits 26 6
      ULONG Spare2;                  // 0x0c
    };
  };
} HANDLE_TABLE_ENTRY;

typedef struct _HANDLE_TABLE {         // 0x80
  ULONG NextHandleNeedingPool;         // 0x00
  LONG ExtraInfoPages;                 // 0x04
  ULONG64 TableCode;                   // 0x08  the table's address, its number of levels in the low two bits
  struct _EPROCESS* QuotaProcess;      // 0x10
  LIST_ENTRY HandleTableList;          // 0x18
  ULONG UniqueProcessId;               // 0x28
  ULONG Flags;                         // 0x2c
  EX_PUSH_LOCK HandleContentionEvent;  // 0x30
  EX_PUSH_LOCK HandleTableLock;        // 0x38
  UCHAR FreeLists[0x20];
  PVOID DebugInfo;  // 0x60
  UCHAR Unused68[0x18];
} HANDLE_TABLE;
