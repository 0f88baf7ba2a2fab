// The block in which the kernel tells debuggers where its lists are. Windows encodes it unless a debugger was
// enabled at boot; the boot option kdbg=encoded does so here.
#include "ntp.h"

// Three values undo the encoding; the way is public from QEMU's contrib/elf2dmp and several forensics tools.
ULONG64 KiWaitNever = 0x37c5a1b04e92d86bull, KiWaitAlways = 0x9d2b64f07a13c58eull;
UCHAR KdpDataBlockEncoded;
PVOID KdpDecodedCopy;  // only while the block is encoded

KDDEBUGGER_DATA64 KdDebuggerDataBlock;
LIST_ENTRY KdpDebuggerDataListHead;
CHAR NtBuildLab[] = "19041.804.unhang.test-guest";
ULONG NtBuildNumber = 0xf0000000 | 19041;  // a free build
ULONG64 KiBugCheckData[5];
extern ULONG64 MmNumberOfPhysicalPages, MmHighestPhysicalPage;

static void KdpEncode(void) {
  KdpDecodedCopy = ExAllocatePoolWithTag(NonPagedPool, sizeof KdDebuggerDataBlock, TAG('K', 'd', 'c', 'p'));
  memcpy(KdpDecodedCopy, &KdDebuggerDataBlock, sizeof KdDebuggerDataBlock);
  ULONG64* word = (ULONG64*)&KdDebuggerDataBlock;
  for (ULONG i = 0; i < sizeof KdDebuggerDataBlock / sizeof *word; i++) {
    ULONG64 x = __builtin_bswap64(word[i] ^ KiWaitAlways) ^ (ULONG64)&KdpDataBlockEncoded;
    word[i] = __builtin_rotateright64(x, KiWaitNever & 63) ^ KiWaitNever;
  }
  KdpDataBlockEncoded = 1;
}

void KdInitSystem(LOADER_BLOCK* block) {
  KDDEBUGGER_DATA64* kd = &KdDebuggerDataBlock;
  KdpDebuggerDataListHead.Flink = KdpDebuggerDataListHead.Blink = &kd->List;
  kd->List.Flink = kd->List.Blink = &KdpDebuggerDataListHead;
  kd->OwnerTag = TAG('K', 'D', 'B', 'G');
  kd->Size = sizeof *kd;
  kd->KernBase = block->Image[0].Base;
  kd->PsLoadedModuleList = (ULONG64)&PsLoadedModuleList;
  kd->PsActiveProcessHead = (ULONG64)&PsActiveProcessHead;
  kd->PspCidTable = (ULONG64)&PspCidTable;
  kd->ExpSystemResourcesList = (ULONG64)&ExpSystemResourcesList;
  kd->KeTimeIncrement = (ULONG64)&KeTimeIncrement;
  kd->KiBugCheckData = (ULONG64)KiBugCheckData;
  kd->ObpRootDirectoryObject = (ULONG64)&ObpRootDirectoryObject;
  kd->ObpTypeObjectType = (ULONG64)&ObpTypeObjectType;
  kd->MmPfnDatabase = (ULONG64)&MmPfnDatabase;
  kd->MmHighestPhysicalPage = (ULONG64)&MmHighestPhysicalPage;
  kd->MmNumberOfPhysicalPages = (ULONG64)&MmNumberOfPhysicalPages;
  kd->NtBuildLab = (ULONG64)NtBuildLab;
  kd->KiProcessorBlock = (ULONG64)KiProcessorBlock;
  kd->MmPhysicalMemoryBlock = (ULONG64)&MmPhysicalMemoryBlock;
  kd->OffsetKThreadNextProcessor = OFFSET_OF(KTHREAD, NextProcessor);
  kd->OffsetKThreadTeb = OFFSET_OF(KTHREAD, Teb);
  kd->OffsetKThreadKernelStack = OFFSET_OF(KTHREAD, KernelStack);
  kd->OffsetKThreadInitialStack = OFFSET_OF(KTHREAD, InitialStack);
  kd->OffsetKThreadApcProcess = OFFSET_OF(KTHREAD, ApcState.Process);
  kd->OffsetKThreadState = OFFSET_OF(KTHREAD, State);
  kd->SizeEProcess = sizeof(EPROCESS);
  kd->OffsetEprocessPeb = OFFSET_OF(EPROCESS, Peb);
  kd->OffsetEprocessParentCID = OFFSET_OF(EPROCESS, InheritedFromUniqueProcessId);
  kd->OffsetEprocessDirectoryTableBase = OFFSET_OF(EPROCESS, Pcb.DirectoryTableBase);
  kd->SizePrcb = sizeof(KPRCB);
  kd->OffsetPrcbDpcRoutine = OFFSET_OF(KPRCB, DpcRoutineActive);
  kd->OffsetPrcbCurrentThread = OFFSET_OF(KPRCB, CurrentThread);
  kd->OffsetPrcbMhz = OFFSET_OF(KPRCB, MHz);
  kd->OffsetPrcbCpuType = OFFSET_OF(KPRCB, CpuType);
  kd->OffsetPrcbVendorString = OFFSET_OF(KPRCB, VendorString);
  kd->OffsetPrcbProcStateContext = OFFSET_OF(KPRCB, ProcessorState.ContextFrame);
  kd->OffsetPrcbNumber = OFFSET_OF(KPRCB, Number);
  kd->SizeEThread = sizeof(ETHREAD);
  kd->SizePcr = sizeof(KPCR);
  kd->OffsetPcrSelfPcr = OFFSET_OF(KPCR, Self);
  kd->OffsetPcrCurrentPrcb = OFFSET_OF(KPCR, CurrentPrcb);
  kd->OffsetPcrContainedPrcb = OFFSET_OF(KPCR, Prcb);
  kd->OffsetPrcbProcStateSpecialReg = OFFSET_OF(KPRCB, ProcessorState.SpecialRegisters);
  kd->OffsetPrcbContext = OFFSET_OF(KPRCB, Context);
  kd->PteBase = MmPteBase;
  KdVersionBlock.MajorVersion = 0xf;
  KdVersionBlock.MinorVersion = 19041;
  KdVersionBlock.MachineType = 0x8664;
  KdVersionBlock.KernBase = block->Image[0].Base;
  KdVersionBlock.PsLoadedModuleList = (ULONG64)&PsLoadedModuleList;
  KdVersionBlock.DebuggerDataList = (ULONG64)&KdpDebuggerDataListHead;
  if (block->KdEncoded) KdpEncode();
}
