// Kernel debugger ("Kd"): what the kernel tells a debugger and a crash dump about itself.
#pragma once
#include "base.h"

// KDDEBUGGER_DATA64 of the public header wdbgexts.h.
typedef struct _KDDEBUGGER_DATA64 {
  LIST_ENTRY List;               // 0x000
  ULONG OwnerTag;                // 0x010  "KDBG"
  ULONG Size;                    // 0x014
  ULONG64 KernBase;              // 0x018
  ULONG64 BreakpointWithStatus;  // 0x020
  ULONG64 SavedContext;          // 0x028
  UCHAR Unused030[0x48 - 0x30];
  ULONG64 PsLoadedModuleList;      // 0x048
  ULONG64 PsActiveProcessHead;     // 0x050
  ULONG64 PspCidTable;             // 0x058
  ULONG64 ExpSystemResourcesList;  // 0x060
  UCHAR Unused068[0x78 - 0x68];
  ULONG64 KeTimeIncrement;             // 0x078
  ULONG64 KeBugCheckCallbackListHead;  // 0x080
  ULONG64 KiBugCheckData;              // 0x088
  ULONG64 IopErrorLogListHead;         // 0x090
  ULONG64 ObpRootDirectoryObject;      // 0x098
  ULONG64 ObpTypeObjectType;           // 0x0a0
  UCHAR Unused0a8[0xc0 - 0xa8];
  ULONG64 MmPfnDatabase;  // 0x0c0
  UCHAR Unused0c8[0xf0 - 0xc8];
  ULONG64 MmHighestPhysicalPage;    // 0x0f0
  ULONG64 MmNumberOfPhysicalPages;  // 0x0f8
  UCHAR Unused100[0x208 - 0x100];
  ULONG64 NtBuildLab;          // 0x208
  ULONG64 KiNormalSystemCall;  // 0x210
  ULONG64 KiProcessorBlock;    // 0x218
  ULONG64 MmUnloadedDrivers;   // 0x220
  UCHAR Unused228[0x270 - 0x228];
  ULONG64 MmPhysicalMemoryBlock;  // 0x270
  UCHAR Unused278[0x298 - 0x278];
  USHORT OffsetKThreadNextProcessor;        // 0x298
  USHORT OffsetKThreadTeb;                  // 0x29a
  USHORT OffsetKThreadKernelStack;          // 0x29c
  USHORT OffsetKThreadInitialStack;         // 0x29e
  USHORT OffsetKThreadApcProcess;           // 0x2a0
  USHORT OffsetKThreadState;                // 0x2a2
  USHORT OffsetKThreadBStore;               // 0x2a4
  USHORT OffsetKThreadBStoreLimit;          // 0x2a6
  USHORT SizeEProcess;                      // 0x2a8
  USHORT OffsetEprocessPeb;                 // 0x2aa
  USHORT OffsetEprocessParentCID;           // 0x2ac
  USHORT OffsetEprocessDirectoryTableBase;  // 0x2ae
  USHORT SizePrcb;                          // 0x2b0
  USHORT OffsetPrcbDpcRoutine;              // 0x2b2
  USHORT OffsetPrcbCurrentThread;           // 0x2b4
  USHORT OffsetPrcbMhz;                     // 0x2b6
  USHORT OffsetPrcbCpuType;                 // 0x2b8
  USHORT OffsetPrcbVendorString;            // 0x2ba
  USHORT OffsetPrcbProcStateContext;        // 0x2bc
  USHORT OffsetPrcbNumber;                  // 0x2be
  USHORT SizeEThread;                       // 0x2c0
  UCHAR Unused2c2[0x2e0 - 0x2c2];
  USHORT SizePcr;                 // 0x2e0
  USHORT OffsetPcrSelfPcr;        // 0x2e2
  USHORT OffsetPcrCurrentPrcb;    // 0x2e4
  USHORT OffsetPcrContainedPrcb;  // 0x2e6
  UCHAR Unused2e8[0x2f2 - 0x2e8];
  USHORT OffsetPrcbProcStateSpecialReg;  // 0x2f2
  UCHAR Unused2f4[0x338 - 0x2f4];
  USHORT OffsetPrcbContext;  // 0x338
  UCHAR Unused33a[0x360 - 0x33a];
  ULONG64 PteBase;  // 0x360
  UCHAR Unused368[0x380 - 0x368];
} KDDEBUGGER_DATA64;

typedef struct _DBGKD_GET_VERSION64 {
  USHORT MajorVersion;
  USHORT MinorVersion;
  UCHAR ProtocolVersion;
  UCHAR KdSecondaryVersion;
  USHORT Flags;
  USHORT MachineType;
  UCHAR MaxPacketType;
  UCHAR MaxStateChange;
  UCHAR MaxManipulate;
  UCHAR Simulation;
  USHORT Unused[1];
  ULONG64 KernBase;
  ULONG64 PsLoadedModuleList;
  ULONG64 DebuggerDataList;
} DBGKD_GET_VERSION64;

// Head of a Windows crash dump. The layout is described by several public readers of such files, QEMU's
// include/qemu/win_dump_defs.h among them.
typedef struct _DUMP_HEADER64 {
  CHAR Signature[4];             // 0x0000  "PAGE"
  CHAR ValidDump[4];             // 0x0004  "DU64"
  ULONG MajorVersion;            // 0x0008
  ULONG MinorVersion;            // 0x000c
  ULONG64 DirectoryTableBase;    // 0x0010
  ULONG64 PfnDataBase;           // 0x0018
  ULONG64 PsLoadedModuleList;    // 0x0020
  ULONG64 PsActiveProcessHead;   // 0x0028
  ULONG MachineImageType;        // 0x0030
  ULONG NumberProcessors;        // 0x0034
  ULONG BugCheckCode;            // 0x0038
  ULONG64 BugCheckParameter[4];  // 0x0040
  CHAR VersionUser[32];          // 0x0060
  ULONG64 KdDebuggerDataBlock;   // 0x0080
  ULONG NumberOfRuns;            // 0x0088
  ULONG64 NumberOfPages;         // 0x0090
  struct {
    ULONG64 BasePage;
    ULONG64 PageCount;
  } Run[2];  // 0x0098
  UCHAR Unused0b8[0xf98 - 0xb8];
  ULONG DumpType;  // 0x0f98
  ULONG Unused0f9c;
  ULONG64 RequiredDumpSpace;  // 0x0fa0
  ULONG64 SystemTime;         // 0x0fa8
  CHAR Comment[128];          // 0x0fb0
  ULONG64 SystemUpTime;       // 0x1030
  UCHAR Unused1038[0x2000 - 0x1038];
} DUMP_HEADER64;
