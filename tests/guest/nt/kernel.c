// Start of the processors: their control blocks, descriptor tables, traps, idle loop.
#include "ntp.h"

LOADER_BLOCK* KeLoaderBlock;
KPRCB* KiProcessorBlock[64];
ULONG KeNumberProcessors;
DBGKD_GET_VERSION64 KdVersionBlock;
volatile ULONG KiPlayIsOver;         // set by the scene
volatile ULONG KiLastProcessorIdle;  // and this by processor 0, once it has nothing more to do

// Names of the trap entries in asm.S.
void KiDivideErrorFault(void);
void KiInvalidOpcodeFault(void);
void KiDoubleFaultAbort(void);
void KiGeneralProtectionFault(void);
void KiPageFault(void);
void KiUnexpectedInterruptNoCode(void);
void KiUnexpectedInterruptCode(void);

typedef struct {
  USHORT OffsetLow, Selector, Access, OffsetMiddle;
  ULONG OffsetHigh, Reserved;
} KIDTENTRY64;

typedef struct __attribute__((packed)) {
  ULONG Reserved0;
  ULONG64 Rsp0, Rsp1, Rsp2, Ist[8];
  ULONG64 Reserved1;
  USHORT Reserved2, IoMapBase;
} KTSS64;

static void KiSetIdtEntry(ULONG vector, void (*handler)(void)) {
  ULONG64 at = (ULONG64)handler;
  ((KIDTENTRY64*)KeLoaderBlock->Idt)[vector] =
      (KIDTENTRY64){(USHORT)at, KGDT64_R0_CODE, 0x8e00, (USHORT)(at >> 16), (ULONG)(at >> 32), 0};
}

static void KiInitializeIdt(void) {
  for (ULONG i = 0; i < 256; i++) {
    BOOLEAN has_code = i == 10 || i == 11 || i == 12 || i == 17;
    KiSetIdtEntry(i, has_code ? KiUnexpectedInterruptCode : KiUnexpectedInterruptNoCode);
  }
  KiSetIdtEntry(0, KiDivideErrorFault);
  KiSetIdtEntry(6, KiInvalidOpcodeFault);
  KiSetIdtEntry(8, KiDoubleFaultAbort);
  KiSetIdtEntry(13, KiGeneralProtectionFault);
  KiSetIdtEntry(14, KiPageFault);
}

// The GDT has NT's selectors; the TSS follows it in the same page.
static void KiInitializeGdt(KPCR* pcr) {
  ULONG64* gdt = (ULONG64*)pcr->GdtBase;
  ULONG64 tss = (ULONG64)pcr->TssBase;
  gdt[2] = 0x00209b0000000000;  // kernel code
  gdt[3] = 0x00cf930000000000;  // kernel data
  gdt[4] = 0x00cffb000000ffff;  // user code, 32 bits
  gdt[5] = 0x00cff3000000ffff;  // user data
  gdt[6] = 0x0020fb0000000000;  // user code
  gdt[8] = 0x67 | (tss & 0xffffff) << 16 | 0x89ull << 40 | ((tss >> 24) & 0xff) << 56;
  gdt[9] = tss >> 32;
  ((KTSS64*)tss)->IoMapBase = 0x68;
}

// Selectors that are loaded go through a far return: CS has no other way.
static void KiLoadDescriptorTables(KPCR* pcr) {
  struct __attribute__((packed)) {
    USHORT Limit;
    PVOID Base;
  } gdtr = {0x6f, pcr->GdtBase}, idtr = {0xfff, pcr->IdtBase};
  __asm__ volatile("lgdt %0; lidt %1" ::"m"(gdtr), "m"(idtr));
  __asm__ volatile(
      "movw %w0, %%ss; movw %w1, %%ds; movw %w1, %%es; ltr %w2;"
      "pushq %3; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:" ::"r"(KGDT64_R0_DATA),
      "r"(KGDT64_R3_DATA | RPL_MASK), "r"(KGDT64_SYS_TSS), "i"(KGDT64_R0_CODE)
      : "rax", "memory");
}

void KiInitializeBootStructures(ULONG number) {
  KPCR* pcr = (KPCR*)KeLoaderBlock->Kpcr[number];
  KPRCB* prcb = &pcr->Prcb;
  pcr->Self = pcr->Used_Self = pcr;
  pcr->CurrentPrcb = prcb;
  pcr->GdtBase = (PVOID)(KeLoaderBlock->Kpcr[number] + 0x10000);
  pcr->TssBase = (PVOID)(KeLoaderBlock->Kpcr[number] + 0x10800);
  pcr->IdtBase = (PVOID)KeLoaderBlock->Idt;
  pcr->LockArray = prcb->LockQueue;
  pcr->MajorVersion = prcb->MajorVersion = 1;
  pcr->MinorVersion = prcb->MinorVersion = 1;
  pcr->KdVersionBlock = &KdVersionBlock;
  prcb->Number = number;
  prcb->LegacyNumber = (UCHAR)number;
  prcb->InitialApicId = number;
  prcb->MxCsr = 0x1f80;
  prcb->Context = &prcb->ProcessorState.ContextFrame;
  memcpy(prcb->VendorString, "AuthenticAMD", 13);
  InitializeListHead(&prcb->WaitListHead);
  for (ULONG i = 0; i < 32; i++) InitializeListHead(&prcb->DispatcherReadyListHead[i]);
  __writemsr(MSR_GS_BASE, (ULONG64)pcr);
  __writemsr(MSR_KERNEL_GS_BASE, 0);
  KiInitializeGdt(pcr);
  KiLoadDescriptorTables(pcr);
  __writemsr(MSR_GS_BASE, (ULONG64)pcr);
  __writemsr(MSR_STAR, (ULONG64)(0x20 | RPL_MASK) << 48 | (ULONG64)KGDT64_R0_CODE << 32);
  __writemsr(MSR_LSTAR, (ULONG64)KiSystemCall64);
  __writemsr(MSR_SYSCALL_MASK, 0x4700);
  // What a debugger shows of the processor; the registers themselves are in the dump.
  KSPECIAL_REGISTERS* special = &prcb->ProcessorState.SpecialRegisters;
  special->Cr3 = KeLoaderBlock->KernelDirectoryTableBase;
  special->Gdtr = (KDESCRIPTOR){{0}, 0x6f, pcr->GdtBase};
  special->Idtr = (KDESCRIPTOR){{0}, 0xfff, pcr->IdtBase};
  special->Tr = KGDT64_SYS_TSS;
  special->MsrGsBase = (ULONG64)pcr;
  special->MsrLStar = (ULONG64)KiSystemCall64;
  KiProcessorBlock[number] = prcb;
  KeNumberProcessors++;
}

void KiTrapNotExpected(KTRAP_FRAME* frame, ULONG vector) {
  DbgPrint("TRAP %x at %p code %x address %p sp %p cs %x thread %p\n", vector, frame->Rip,
           (ULONG)frame->ErrorCode, frame->FaultAddress, frame->Rsp, frame->SegCs, KeGetCurrentThread());
  for (;;) __asm__ volatile("cli; hlt");
}

// ---- idle ----

void PoIdle(KPRCB* prcb) {
  prcb->IdleHalt = 1;
  HalProcessorIdle(KiPlayIsOver);
  prcb->IdleHalt = 0;
}

// A processor with nothing to do. The second one is given threads through KPRCB.NextThread by the first,
// which never sleeps while the scene is being played; so it looks instead of halting.
void KiIdleLoop(void) {
  for (;;) {
    KPRCB* prcb = KeGetCurrentPrcb();
    KTHREAD* idle = prcb->IdleThread;
    if (prcb->NextThread != NULL || prcb->ReadySummary != 0) {
      KiLoadContext(prcb, NULL);
      KiSwapContext(idle, prcb->CurrentThread);
      continue;
    }
    if (prcb->Number == 0)
      PoIdle(prcb);
    else
      _mm_pause();
  }
}

// ---- start ----

// Starts the second processor: INIT and start-up IPIs through the local APIC, whose code is at ApStartPage.
void KiStartProcessor(ULONG number, KTHREAD* idle_thread) {
  volatile ULONG* apic = (volatile ULONG*)KeLoaderBlock->LocalApic;
  KPCR* pcr = (KPCR*)KeLoaderBlock->Kpcr[number];
  pcr->Prcb.IdleThread = pcr->Prcb.CurrentThread = idle_thread;
  KeLoaderBlock->Processor = number;
  KeLoaderBlock->ApMailbox[2] = (ULONG64)KeLoaderBlock;
  KeLoaderBlock->ApMailbox[1] = KeLoaderBlock->InitialStack[number];
  KeLoaderBlock->ApMailbox[0] = (ULONG64)KiSystemStartup;
  apic[0xf0 / 4] = 0x1ff;
  apic[0x310 / 4] = number << 24;
  apic[0x300 / 4] = 0x4500;
  for (volatile ULONG i = 0; i < 200000; i++) _mm_pause();
  apic[0x310 / 4] = number << 24;
  apic[0x300 / 4] = 0x4600 | (ULONG)(KeLoaderBlock->ApStartPage >> PAGE_SHIFT);
  while (((volatile ULONG*)&KeNumberProcessors)[0] <= number) _mm_pause();
}

static void KiInitializeKernel(LOADER_BLOCK* block) {
  WRITE_PORT_UCHAR(0x21, 0xff);  // no interrupts from the PICs
  WRITE_PORT_UCHAR(0xa1, 0xff);
  KiInitializeIdt();
  KiInitializeBootStructures(0);
  MmInitSystem(block);
  ExInitializePool();
  ObInitSystem();
  PspInitPhase0(block);
  KdInitSystem(block);
  KeInitializeClock();
  KiInitializeSystemCall();
  ExpInitializeWorkQueues();
  ETHREAD* phase1 = PsCreateSystemThread(PsInitialSystemProcess, 8, Phase1Initialization, NULL, 1);
  KiReadyThread(&phase1->Tcb);
}

// Both processors enter here, each on the stack of its idle thread.
__attribute__((section("INIT"))) void KiSystemStartup(LOADER_BLOCK* block) {
  KeLoaderBlock = block;
  if (block->Processor == 0)
    KiInitializeKernel(block);
  else
    KiInitializeBootStructures(block->Processor);
  __asm__ volatile("sti");
  KiIdleLoop();
}
