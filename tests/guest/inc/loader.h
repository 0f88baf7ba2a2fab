// What the boot loader hands to the kernel. Ours, not NT's LOADER_PARAMETER_BLOCK.
#pragma once
#include "base.h"

typedef struct _LOADED_IMAGE {
  ULONG64 Base;      // where it is mapped, or (user images) where it is to be mapped
  ULONG64 Physical;  // its pages, one run
  ULONG Size;
  ULONG EntryRva;
  CHAR Name[24];
} LOADED_IMAGE;

#define LOADER_MAXIMUM_IMAGES 16
#define LOADER_PROCESSORS 2

typedef struct _LOADER_BLOCK {
  ULONG64 KernelDirectoryTableBase;
  ULONG64 MemoryPages;    // of the machine
  ULONG64 LoaderEnd;      // frames 0x100 to here held the loader and the image files
  ULONG64 FirstFreePage;  // page frames from here to MemoryPages belong to Mm
  ULONG64 NonPagedPool, NonPagedPoolPhysical, NonPagedPoolSize;
  ULONG64 Kpcr[LOADER_PROCESSORS];  // each with a page for GDT and TSS at +0x10000
  ULONG64 Idt;
  ULONG64 LocalApic;
  ULONG64 InitialStack[LOADER_PROCESSORS];  // their tops
  volatile ULONG64* ApMailbox;              // [0] entry, [1] stack, [2] argument for the second processor
  ULONG64 ApStartPage;                      // physical, for the start-up IPI
  ULONG Processor;                          // which one enters the kernel
  ULONG KdEncoded;                          // boot option kdbg=encoded
  ULONG ImageCount, KernelImageCount;       // the kernel's images come first
  LOADED_IMAGE Image[LOADER_MAXIMUM_IMAGES];
} LOADER_BLOCK;
