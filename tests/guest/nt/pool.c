// Pool: blocks with NT's POOL_HEADER that never cross a page, larger ones on pages of their own without a
// header. Memory is only ever given out; what is freed changes its header and stays. Non-paged pool lies in 2
// MiB pages.
#include "ntp.h"

typedef struct {
  ULONG64 Next;     // where the next block's header goes
  USHORT Previous;  // size of the block before it in this page, in 16-byte units
} POOL_CURSOR;

static POOL_CURSOR KiNonPaged, KiPaged;
static ULONG64 MiNextBigPage, MiNonPagedPoolEnd;
static ULONG64 KiPoolLock;

#define POOL_UNIT 16

void ExInitializePool(void) {
  KiNonPaged.Next = KeLoaderBlock->NonPagedPool;
  MiNonPagedPoolEnd = KeLoaderBlock->NonPagedPool + KeLoaderBlock->NonPagedPoolSize;
  MiNextBigPage = MiNonPagedPoolEnd;  // downwards
  KiPaged.Next = (ULONG64)MmAllocatePagedPoolPage();
}

ULONG64 MiNonPagedPoolPhysical(PVOID block) {
  return KeLoaderBlock->NonPagedPoolPhysical + ((ULONG64)block - KeLoaderBlock->NonPagedPool);
}

static POOL_HEADER* ExpCarve(POOL_CURSOR* cursor, ULONG units, ULONG type, ULONG tag) {
  POOL_HEADER* header = (POOL_HEADER*)cursor->Next;
  header->Ulong1 = 0;
  header->PreviousSize = cursor->Previous;
  header->BlockSize = (USHORT)units;
  header->PoolType = (USHORT)type;
  header->PoolTag = tag;
  header->ProcessBilled = 0;
  cursor->Previous = (USHORT)units;
  cursor->Next += units * POOL_UNIT;
  return header;
}

PVOID ExAllocatePoolWithTag(ULONG type, ULONG64 size, ULONG tag) {
  ULONG64 irql = KeAcquireSpinLockRaiseToDpc(&KiPoolLock);
  PVOID block;
  ULONG units = (ULONG)((size + sizeof(POOL_HEADER) + POOL_UNIT - 1) / POOL_UNIT);
  if (units * POOL_UNIT > PAGE_SIZE - 2 * POOL_UNIT) {
    MiNextBigPage -= (size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
    block = (PVOID)MiNextBigPage;
  } else {
    POOL_CURSOR* cursor = type == PagedPool ? &KiPaged : &KiNonPaged;
    ULONG left = (ULONG)(PAGE_SIZE - (cursor->Next & (PAGE_SIZE - 1))) / POOL_UNIT;
    if (left < units || left == PAGE_SIZE / POOL_UNIT) {
      if (left < units) ExpCarve(cursor, left, 0, TAG('F', 'r', 'e', 'e'));
      cursor->Previous = 0;
      if (type == PagedPool && (cursor->Next & (PAGE_SIZE - 1)) == 0)
        cursor->Next = (ULONG64)MmAllocatePagedPoolPage();
    }
    block = ExpCarve(cursor, units, type == PagedPool ? 3 : 2, tag) + 1;
  }
  KeReleaseSpinLock(&KiPoolLock, irql);
  return block;
}

void ExFreePoolWithTag(PVOID block, ULONG tag) {
  if (((ULONG64)block & (PAGE_SIZE - 1)) == 0) return;
  POOL_HEADER* header = (POOL_HEADER*)block - 1;
  memset(block, 0, header->BlockSize * POOL_UNIT - sizeof *header);
  header->PoolType = 0;
}
