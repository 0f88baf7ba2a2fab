// Memory manager ("Mm"): page tables, session space.
#pragma once
#include "ex.h"

typedef struct _MMPTE_HARDWARE {
  ULONG64 Valid : 1;
  ULONG64 Dirty1 : 1;
  ULONG64 Owner : 1;
  ULONG64 WriteThrough : 1;
  ULONG64 CacheDisable : 1;
  ULONG64 Accessed : 1;
  ULONG64 Dirty : 1;
  ULONG64 LargePage : 1;
  ULONG64 Global : 1;
  ULONG64 CopyOnWrite : 1;
  ULONG64 Unused : 1;
  ULONG64 Write : 1;
  ULONG64 PageFrameNumber : 36;
  ULONG64 ReservedForHardware : 4;
  ULONG64 ReservedForSoftware : 4;
  ULONG64 WsleAge : 4;
  ULONG64 WsleProtection : 3;
  ULONG64 NoExecute : 1;
} MMPTE_HARDWARE;

typedef struct _MMPTE {
  union {
    ULONG64 Long;
    MMPTE_HARDWARE Hard;
  } u;
} MMPTE;

// Bits of an entry that is present: NT's for memory that is not paged.
#define PTE_VALID 0x001ull
#define PTE_WRITE 0x002ull
#define PTE_USER 0x004ull
#define PTE_NOEXECUTE (1ull << 63)
#define PTE_KERNEL_RW (0x163ull | PTE_NOEXECUTE)
#define PTE_KERNEL_TABLE 0x063ull
#define PTE_USER_TABLE 0x067ull

// The slot of the top-level table that refers to the table itself. Windows 10 chooses it at boot; this is the
// classic one, which gives PTEs at 0xfffff680`00000000.
#define PXE_SELFMAP_INDEX 0x1ed
#define PTE_BASE 0xFFFFF68000000000ull
#define MI_PTE(va) ((MMPTE*)(PTE_BASE + (((ULONG64)(va) >> 9) & 0x7ffffffff8ull)))
#define MI_PDE(va) MI_PTE(MI_PTE(va))
#define MI_PPE(va) MI_PTE(MI_PDE(va))
#define MI_PXE(va) MI_PTE(MI_PPE(va))

typedef struct _MM_SESSION_SPACE {  // 0x5000
  LONG ReferenceCount;              // 0x0000
  ULONG LongFlags;
  ULONG SessionId;                    // 0x0008
  LONG ProcessReferenceToSession;     // 0x000c
  LIST_ENTRY ProcessList;             // 0x0010  of EPROCESS.SessionProcessLinks
  ULONG64 SessionPageDirectoryIndex;  // 0x0020
  ULONG64 NonPagablePages;            // 0x0028
  ULONG64 CommittedPages;             // 0x0030
  UCHAR Unused038[0x5000 - 0x38];
} MM_SESSION_SPACE;

typedef struct _PHYSICAL_MEMORY_RUN {  // 0x10
  ULONG64 BasePage;                    // 0x00
  ULONG64 PageCount;                   // 0x08
} PHYSICAL_MEMORY_RUN;

typedef struct _PHYSICAL_MEMORY_DESCRIPTOR {  // 0x20
  ULONG NumberOfRuns;                         // 0x00
  ULONG64 NumberOfPages;                      // 0x08
  PHYSICAL_MEMORY_RUN Run[1];                 // 0x10
} PHYSICAL_MEMORY_DESCRIPTOR;
