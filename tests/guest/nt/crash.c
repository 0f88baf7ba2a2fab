// What virtio-win's fwcfg driver does in a real guest: it tells QEMU over the firmware configuration device
// where the head of a Windows crash dump is. QEMU puts it as a note into its dumps, and can then write a
// Windows dump itself, which is a judge of our debugger block that is not ours. Without the vmcoreinfo device
// nothing happens. Registers and formats: QEMU's docs/specs/fw_cfg and docs/specs/vmcoreinfo.
#include "ntp.h"

#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA 0x511
#define FW_CFG_DMA 0x514  // address of a command, big-endian, its high half first
#define FW_CFG_FILE_DIR 0x19
#define DMA_SELECT 8
#define DMA_WRITE 0x10
#define VMCOREINFO_ELF 1

typedef struct {
  ULONG Control, Length;  // big-endian, as everything that the device reads
  ULONG64 Address;
} FW_CFG_COMMAND;

typedef struct __attribute__((packed)) {
  USHORT HostFormat, GuestFormat;
  ULONG Size;
  ULONG64 Address;
} VMCOREINFO;

typedef struct {  // an ELF note
  ULONG NameSize, DescriptionSize, Type;
  CHAR Name[12];
  DUMP_HEADER64 Header;
} DUMP_NOTE;

static ULONG64 IopFwCfgNumber(ULONG bytes) {
  ULONG64 value = 0;
  while (bytes--) value = value << 8 | READ_PORT_UCHAR(FW_CFG_DATA);
  return value;
}

// Returns the selector of the file etc/vmcoreinfo, 0 if the device is not there.
static ULONG IopFindVmcoreinfo(void) {
  static const CHAR name[] = "etc/vmcoreinfo";
  ULONG found = 0;
  WRITE_PORT_USHORT(FW_CFG_SELECTOR, FW_CFG_FILE_DIR);
  for (ULONG64 files = IopFwCfgNumber(4); files != 0 && files < 256; files--) {
    IopFwCfgNumber(4);  // its size
    ULONG selector = (ULONG)IopFwCfgNumber(4) >> 16;
    BOOLEAN same = TRUE;
    for (ULONG i = 0; i < 56; i++) {
      CHAR c = (CHAR)READ_PORT_UCHAR(FW_CFG_DATA);
      if (i < sizeof name && c != name[i]) same = FALSE;
    }
    if (same) found = selector;
  }
  return found;
}

static void IopFillCrashHeader(DUMP_HEADER64* header) {
  memcpy(header->Signature, "PAGE", 4);
  memcpy(header->ValidDump, "DU64", 4);
  header->MajorVersion = 15;
  header->MinorVersion = 19041;
  header->DirectoryTableBase = KeLoaderBlock->KernelDirectoryTableBase;
  header->PsLoadedModuleList = (ULONG64)&PsLoadedModuleList;
  header->PsActiveProcessHead = (ULONG64)&PsActiveProcessHead;
  header->MachineImageType = 0x8664;
  header->NumberProcessors = LOADER_PROCESSORS;
  header->KdDebuggerDataBlock = (ULONG64)&KdDebuggerDataBlock;
  header->BugCheckParameter[0] = (ULONG64)KdpDecodedCopy;  // for readers without symbols
  header->NumberOfRuns = MmPhysicalMemoryBlock->NumberOfRuns;
  header->NumberOfPages = MmPhysicalMemoryBlock->NumberOfPages;
  header->Run[0].BasePage = MmPhysicalMemoryBlock->Run[0].BasePage;
  header->Run[0].PageCount = MmPhysicalMemoryBlock->Run[0].PageCount;
  header->DumpType = 1;  // full
}

void IoInitializeCrashDump(void) {
  ULONG selector = IopFindVmcoreinfo();
  if (selector == 0) return;
  DUMP_NOTE* note = ExAllocatePoolWithTag(NonPagedPool, sizeof *note, TAG('D', 'u', 'm', 'p'));
  memset(note, 0, sizeof *note);
  note->NameSize = 11;
  note->DescriptionSize = sizeof note->Header;
  memcpy(note->Name, "VMCOREINFO", 11);
  IopFillCrashHeader(&note->Header);
  VMCOREINFO* info = ExAllocatePoolWithTag(NonPagedPool, sizeof *info, TAG('D', 'u', 'm', 'p'));
  *info = (VMCOREINFO){0, VMCOREINFO_ELF, sizeof *note, MiNonPagedPoolPhysical(note)};
  FW_CFG_COMMAND* command = ExAllocatePoolWithTag(NonPagedPool, sizeof *command, TAG('D', 'u', 'm', 'p'));
  command->Control = __builtin_bswap32(selector << 16 | DMA_SELECT | DMA_WRITE);
  command->Length = __builtin_bswap32(sizeof *info);
  command->Address = __builtin_bswap64(MiNonPagedPoolPhysical(info));
  ULONG64 at = MiNonPagedPoolPhysical(command);
  WRITE_PORT_ULONG(FW_CFG_DMA, __builtin_bswap32((ULONG)(at >> 32)));
  WRITE_PORT_ULONG(FW_CFG_DMA + 4, __builtin_bswap32((ULONG)at));
  if (*(volatile ULONG*)&command->Control != 0) DbgPrint("fw_cfg refuses the crash header\n");
}
