// Memory: page frames, page tables through the self-map, kernel stacks, address spaces. Frames are only given
// out.
#include "ntp.h"

// Where the regions lie; build 19041 chooses such places at boot.
#define MI_TEMPORARY 0xfffff80310000000ull
#define MI_PAGED_POOL 0xffffb70f12000000ull
#define MI_KERNEL_STACKS 0xfffffe8a4c200000ull
#define MI_SYSTEM_CACHE 0xffffd58c30000000ull
#define KERNEL_STACK_PAGES 6

ULONG64 MmPteBase = PTE_BASE;
PVOID MmPfnDatabase;
ULONG64 MmNumberOfPhysicalPages, MmHighestPhysicalPage;
PHYSICAL_MEMORY_DESCRIPTOR* MmPhysicalMemoryBlock;
static PHYSICAL_MEMORY_DESCRIPTOR MiPhysicalMemory;

static volatile ULONG64 MiNextFrame;
static ULONG64 MiNextPagedPool = MI_PAGED_POOL;
static ULONG64 MiNextStack = MI_KERNEL_STACKS;
static ULONG64 MiNextCache = MI_SYSTEM_CACHE;

// The loader left all memory behind its own zeroed.
ULONG64 MiAllocatePage(void) {
  ULONG64 frame = __sync_fetch_and_add(&MiNextFrame, 1);
  if (frame >= KeLoaderBlock->MemoryPages) {
    DbgPrint("out of memory\n");
    for (;;) __asm__ volatile("cli; hlt");
  }
  return frame;
}

void MiMapPage(ULONG64 va, ULONG64 frame, ULONG64 flags) {
  ULONG64 table = va >> 63 ? PTE_KERNEL_TABLE : PTE_USER_TABLE;
  MMPTE* path[] = {MI_PXE(va), MI_PPE(va), MI_PDE(va)};
  for (ULONG i = 0; i < COUNT_OF(path); i++)
    if (!path[i]->u.Hard.Valid) path[i]->u.Long = MiAllocatePage() << PAGE_SHIFT | table;
  MI_PTE(va)->u.Long = frame << PAGE_SHIFT | flags;
}

void MiMapNewPages(ULONG64 va, ULONG64 pages, ULONG64 flags) {
  for (ULONG64 i = 0; i < pages; i++) MiMapPage(va + i * PAGE_SIZE, MiAllocatePage(), flags);
}

// A frame of any address space, until the next call.
PVOID MiMapTemporary(ULONG64 frame) {
  MiMapPage(MI_TEMPORARY, frame, PTE_KERNEL_RW);
  __invlpg((PVOID)MI_TEMPORARY);
  return (PVOID)MI_TEMPORARY;
}

PVOID MmAllocatePagedPoolPage(void) {
  ULONG64 va = MiNextPagedPool;
  MiNextPagedPool += PAGE_SIZE;
  MiMapNewPages(va, 1, PTE_KERNEL_RW);
  return (PVOID)va;
}

PVOID MmAllocateSystemCachePages(ULONG64 pages) {
  ULONG64 va = MiNextCache;
  MiNextCache += (pages * PAGE_SIZE + 0x3ffff) & ~0x3ffffull;  // views of 256 KiB
  MiMapNewPages(va, pages, PTE_KERNEL_RW);
  return (PVOID)va;
}

// Returns the stack's base: its highest address. Pages that are not there guard both ends.
PVOID MmCreateKernelStack(void) {
  ULONG64 va = MiNextStack + PAGE_SIZE;
  MiNextStack += (KERNEL_STACK_PAGES + 1) * PAGE_SIZE;
  MiMapNewPages(va, KERNEL_STACK_PAGES, PTE_KERNEL_RW);
  return (PVOID)(va + KERNEL_STACK_PAGES * PAGE_SIZE);
}

// A top-level table with the kernel's half. MmInitSystem has filled every entry that the kernel will ever
// use.
ULONG64 MmCreateProcessAddressSpace(void) {
  ULONG64 frame = MiAllocatePage();
  MMPTE* table = MiMapTemporary(frame);
  MMPTE* own = MI_PXE(0);
  for (ULONG i = 256; i < 512; i++) table[i] = own[i];
  table[PXE_SELFMAP_INDEX].u.Long = frame << PAGE_SHIFT | PTE_KERNEL_TABLE | PTE_NOEXECUTE;
  return frame << PAGE_SHIFT;
}

// Maps an image, which all processes share, into the current process. Sections: Microsoft's PE specification.
void MmMapUserImage(const LOADED_IMAGE* image) {
  for (ULONG offset = 0; offset < image->Size; offset += PAGE_SIZE)
    MiMapPage(image->Base + offset, (image->Physical + offset) >> PAGE_SHIFT, PTE_VALID | PTE_USER | 0x20);
  const UCHAR* nt = (const UCHAR*)image->Base + *(ULONG*)(image->Base + 0x3c);
  const UCHAR* section = nt + 24 + *(const USHORT*)(nt + 20);
  for (USHORT i = 0; i < *(const USHORT*)(nt + 6); i++, section += 40) {
    ULONG start = *(const ULONG*)(section + 12), size = *(const ULONG*)(section + 8);
    if (*(const ULONG*)(section + 36) & 0x20000000) continue;  // executable
    for (ULONG offset = start; offset < start + size; offset += PAGE_SIZE)
      MI_PTE(image->Base + offset)->u.Long |= PTE_NOEXECUTE;
  }
}

// The loader, the image files and the second processor's start page: nothing of them belongs into a dump.
void MmFreeLoaderMemory(void) {
  for (ULONG64 frame = 0x100; frame < KeLoaderBlock->LoaderEnd; frame++)
    memset(MiMapTemporary(frame), 0, PAGE_SIZE);
  memset(MiMapTemporary(KeLoaderBlock->ApStartPage >> PAGE_SHIFT), 0, PAGE_SIZE);
}

void MmInitSystem(LOADER_BLOCK* block) {
  MiNextFrame = block->FirstFreePage;
  MmNumberOfPhysicalPages = block->MemoryPages - 0x100;
  MmHighestPhysicalPage = block->MemoryPages - 1;
  MiPhysicalMemory.NumberOfRuns = 1;
  MiPhysicalMemory.NumberOfPages = MmNumberOfPhysicalPages;
  MiPhysicalMemory.Run[0] = (PHYSICAL_MEMORY_RUN){0x100, MmNumberOfPhysicalPages};  // what dump.py saves
  MmPhysicalMemoryBlock = &MiPhysicalMemory;
  const ULONG64 regions[] = {MI_TEMPORARY, MI_PAGED_POOL, MI_KERNEL_STACKS, MI_SYSTEM_CACHE};
  for (ULONG i = 0; i < COUNT_OF(regions); i++)
    if (!MI_PXE(regions[i])->u.Hard.Valid)
      MI_PXE(regions[i])->u.Long = MiAllocatePage() << PAGE_SHIFT | PTE_KERNEL_TABLE;
}
