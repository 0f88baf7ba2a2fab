// Processes, threads, loaded images, and what user mode sees of them (PEB, TEB, loader lists).
#include "ntp.h"

EPROCESS *PsIdleProcess, *PsInitialSystemProcess;
LIST_ENTRY PsActiveProcessHead = {&PsActiveProcessHead, &PsActiveProcessHead};
LIST_ENTRY PsLoadedModuleList = {&PsLoadedModuleList, &PsLoadedModuleList};
HANDLE_TABLE* PspCidTable;
ULONG PsActiveProcessCount;

// A process's user half: its PEB, a page of loader data, its parameters; then thread by thread TEB and stack.
#define USER_AREA 0x000000c53a400000ull
#define USER_LOADER_DATA (USER_AREA + 0x1000)
#define USER_PARAMETERS (USER_AREA + 0x2000)
#define USER_THREADS (USER_AREA + 0x10000)
#define USER_THREAD_STRIDE 0x10000ull
#define USER_TEB_PAGES 2
#define USER_STACK_PAGES 4
#define PTE_USER_RW (PTE_VALID | PTE_WRITE | PTE_USER | 0x60 | PTE_NOEXECUTE)

static LONG64 PspNow(void) {
  KSYSTEM_TIME* now = &SharedUserData->SystemTime;
  return (LONG64)now->High1Time << 32 | now->LowPart;
}

static void PspCopyString(UNICODE_STRING* to, const WCHAR* text, WCHAR** at) {
  RtlInitUnicodeString(to, text);
  to->Buffer = *at;
  memcpy(*at, text, to->MaximumLength);
  *at += to->MaximumLength / 2;
}

static WCHAR* PspAllocateString(ULONG64 characters) {
  return ExAllocatePoolWithTag(PagedPool, characters * 2, TAG('S', 't', 'r', 'g'));
}

// ---- processes and threads ----

EPROCESS* PspAllocateProcess(const char* name, ULONG64 id, ULONG64 parent, ULONG64 directory_table_base) {
  EPROCESS* process = ObCreateObject(PsProcessType, sizeof *process, NULL, NULL);
  KeInitializeProcess(&process->Pcb, 8, directory_table_base);
  process->UniqueProcessId = (PVOID)id;
  process->InheritedFromUniqueProcessId = (PVOID)parent;
  process->CreateTime.QuadPart = PspNow();
  process->ExitStatus = STATUS_PENDING;
  process->PriorityClass = 2;
  for (ULONG i = 0; i < 14 && name[i]; i++) process->ImageFileName[i] = (UCHAR)name[i];
  LIST_ENTRY* heads[] = {&process->SessionProcessLinks, &process->JobLinks, &process->ThreadListHead,
                         &process->MmProcessLinks, &process->ActiveProcessLinks};
  for (ULONG i = 0; i < COUNT_OF(heads); i++) InitializeListHead(heads[i]);
  process->ObjectTable = ExCreateHandleTable(process);
  if (id == 0) return process;  // the idle process is on no list
  InsertTailList(&PsActiveProcessHead, &process->ActiveProcessLinks);
  PsActiveProcessCount++;
  ExpSetHandle(PspCidTable, id, process);
  return process;
}

static ETHREAD* PspInitializeThread(EPROCESS* process, ULONG64 id, PVOID start, PVOID stack_base,
                                    LONG priority) {
  ETHREAD* thread = ObCreateObject(PsThreadType, sizeof *thread, NULL, NULL);
  KeInitThread(&thread->Tcb, stack_base, &process->Pcb, priority);
  InitializeListHead(&thread->IrpList);
  InitializeListHead(&thread->ActiveTimerListHead);
  InitializeListHead(&thread->KeyedWaitChain);
  InitializeListHead(&thread->AlpcWaitListEntry);
  InitializeListHead(&thread->OwnerEntryListHead);
  InitializeListHead(&thread->DisownedOwnerEntryListHead);
  KeInitializeSemaphore(&thread->KeyedWaitSemaphore, 0, 1);
  thread->Tcb.LockEntries = thread->LockEntries;
  thread->Tcb.AbEntrySummary = 0x3f;
  thread->Cid.UniqueProcess = process->UniqueProcessId;
  thread->Cid.UniqueThread = (PVOID)id;
  thread->CreateTime.QuadPart = PspNow();
  thread->StartAddress = thread->Win32StartAddress = start;
  thread->ThreadInserted = 1;
  InsertTailList(&process->ThreadListHead, &thread->ThreadListEntry);
  process->ActiveThreads++;
  if (id != 0) ExpSetHandle(PspCidTable, id, thread);
  return thread;
}

void PspSystemThreadStartup(void (*start)(PVOID), PVOID context) {
  start(context);
}

ETHREAD* PsCreateSystemThread(EPROCESS* process, ULONG64 id, void (*start)(PVOID), PVOID context,
                              LONG priority) {
  ETHREAD* thread = PspInitializeThread(process, id, start, MmCreateKernelStack(), priority);
  thread->Tcb.SystemThread = 1;
  KiInitializeContextThread(&thread->Tcb, KiStartSystemThread, start, context);
  return thread;
}

KTHREAD* PspCreateIdleThread(ULONG number) {
  ETHREAD* thread =
      PspInitializeThread(PsIdleProcess, 0, KiIdleLoop, (PVOID)KeLoaderBlock->InitialStack[number], 0);
  thread->Tcb.InitialStack = (PVOID)KeLoaderBlock->InitialStack[number];
  thread->Tcb.SystemThread = 1;
  thread->Tcb.NextProcessorNumber = number;
  thread->Tcb.State = Running;
  thread->Tcb.Running = 1;
  return &thread->Tcb;
}

// ---- loaded images ----

static void MiAddLoadedModule(const LOADED_IMAGE* image, const WCHAR* directory) {
  KLDR_DATA_TABLE_ENTRY* entry = ExAllocatePoolWithTag(NonPagedPool, sizeof *entry, TAG('M', 'm', 'L', 'd'));
  memset(entry, 0, sizeof *entry);
  const UCHAR* nt = (const UCHAR*)image->Base + *(ULONG*)(image->Base + 0x3c);
  entry->DllBase = (PVOID)image->Base;
  entry->EntryPoint = (PVOID)(image->Base + image->EntryRva);
  entry->SizeOfImage = image->Size;
  entry->ExceptionTable = (PVOID)(image->Base + *(const ULONG*)(nt + 24 + 112 + 3 * 8));
  entry->ExceptionTableSize = *(const ULONG*)(nt + 24 + 112 + 3 * 8 + 4);
  entry->TimeDateStamp = *(const ULONG*)(nt + 8);
  entry->CheckSum = *(const ULONG*)(nt + 24 + 64);
  entry->LoadCount = 1;
  WCHAR name[24] = {0}, *at = PspAllocateString(96);
  for (ULONG i = 0; i < COUNT_OF(name) - 1; i++) name[i] = (WCHAR)image->Name[i];
  PspCopyString(&entry->FullDllName, directory, &at);
  at--;
  PspCopyString(&entry->BaseDllName, name, &at);
  entry->FullDllName.Length += entry->BaseDllName.Length;
  entry->FullDllName.MaximumLength = entry->FullDllName.Length + 2;
  InsertTailList(&PsLoadedModuleList, &entry->InLoadOrderLinks);
}

KLDR_DATA_TABLE_ENTRY* PspFindLoadedModule(const WCHAR* name) {
  UNICODE_STRING wanted;
  RtlInitUnicodeString(&wanted, name);
  for (LIST_ENTRY* e = PsLoadedModuleList.Flink; e != &PsLoadedModuleList; e = e->Flink)
    if (RtlEqualUnicodeString(&wanted, &((KLDR_DATA_TABLE_ENTRY*)e)->BaseDllName, TRUE))
      return (KLDR_DATA_TABLE_ENTRY*)e;
  return NULL;
}

static const LOADED_IMAGE* PspFindUserImage(const char* name) {
  for (ULONG i = KeLoaderBlock->KernelImageCount; i < KeLoaderBlock->ImageCount; i++) {
    const CHAR *a = KeLoaderBlock->Image[i].Name, *b = name;
    while (*a && *a == *b) a++, b++;
    if (*a == *b) return &KeLoaderBlock->Image[i];
  }
  DbgPrint("no image %s\n", name);
  for (;;) __asm__ volatile("cli; hlt");
}

// ---- user mode ----

static MM_SESSION_SPACE* PspSession(ULONG id, EPROCESS* process) {
  static MM_SESSION_SPACE* sessions[2];
  if (sessions[id] == NULL) {
    sessions[id] = ExAllocatePoolWithTag(NonPagedPool, sizeof(MM_SESSION_SPACE), TAG('M', 'm', 'S', 's'));
    memset(sessions[id], 0, sizeof(MM_SESSION_SPACE));
    sessions[id]->SessionId = id;
    InitializeListHead(&sessions[id]->ProcessList);
  }
  sessions[id]->ReferenceCount++;
  InsertTailList(&sessions[id]->ProcessList, &process->SessionProcessLinks);
  return sessions[id];
}

static void PspAddUserModule(PEB_LDR_DATA* loader, LDR_DATA_TABLE_ENTRY* entry, const LOADED_IMAGE* image,
                             const WCHAR* path, WCHAR** text) {
  entry->DllBase = (PVOID)image->Base;
  entry->EntryPoint = (PVOID)(image->Base + image->EntryRva);
  entry->SizeOfImage = image->Size;
  PspCopyString(&entry->FullDllName, path, text);
  ULONG name = entry->FullDllName.Length / 2;
  while (name != 0 && path[name - 1] != '\\') name--;
  RtlInitUnicodeString(&entry->BaseDllName, path + name);
  entry->BaseDllName.Buffer = entry->FullDllName.Buffer + name;
  InitializeListHead(&entry->HashLinks);
  InsertTailList(&loader->InLoadOrderModuleList, &entry->InLoadOrderLinks);
  InsertTailList(&loader->InMemoryOrderModuleList, &entry->InMemoryOrderLinks);
  InsertTailList(&loader->InInitializationOrderModuleList, &entry->InInitializationOrderLinks);
}

// Fills the current process's PEB and what hangs from it.
static void PspFillUserArea(const PROCESS_PLAN* plan, const LOADED_IMAGE* image, const LOADED_IMAGE* ntdll) {
  PEB* peb = (PEB*)USER_AREA;
  PEB_LDR_DATA* loader = (PEB_LDR_DATA*)USER_LOADER_DATA;
  RTL_USER_PROCESS_PARAMETERS* parameters = (RTL_USER_PROCESS_PARAMETERS*)USER_PARAMETERS;
  WCHAR* text = (WCHAR*)(parameters + 1);
  peb->ImageBaseAddress = (PVOID)image->Base;
  peb->Ldr = loader;
  peb->ProcessParameters = parameters;
  peb->NumberOfProcessors = LOADER_PROCESSORS;
  peb->OSMajorVersion = 10;
  peb->OSBuildNumber = 19041;
  peb->SessionId = plan->Session;
  loader->Length = sizeof *loader;
  loader->Initialized = 1;
  InitializeListHead(&loader->InLoadOrderModuleList);
  InitializeListHead(&loader->InMemoryOrderModuleList);
  InitializeListHead(&loader->InInitializationOrderModuleList);
  LDR_DATA_TABLE_ENTRY* entries = (LDR_DATA_TABLE_ENTRY*)(loader + 1);
  PspAddUserModule(loader, &entries[0], image, plan->Path, &text);
  PspAddUserModule(loader, &entries[1], ntdll, L"C:\\Windows\\System32\\ntdll.dll", &text);
  parameters->Length = parameters->MaximumLength = sizeof *parameters;
  parameters->Flags = 1;
  PspCopyString(&parameters->ImagePathName, plan->Path, &text);
  PspCopyString(&parameters->CommandLine, plan->Command, &text);
}

EPROCESS* PspCreateUserProcess(const PROCESS_PLAN* plan) {
  const LOADED_IMAGE *image = PspFindUserImage(plan->Image), *ntdll = PspFindUserImage("ntdll.dll");
  EPROCESS* process = PspAllocateProcess(plan->Name, plan->Id, plan->Parent, MmCreateProcessAddressSpace());
  process->Session = PspSession(plan->Session, process);
  process->Peb = (PEB*)USER_AREA;
  process->SectionBaseAddress = (PVOID)image->Base;
  process->HighestUserAddress = (PVOID)0x7fffffff0000;
  // The kernel's own name of the image: a device path.
  OBJECT_NAME_INFORMATION* name =
      ExAllocatePoolWithTag(PagedPool, sizeof *name + 160 * 2, TAG('S', 'e', 'P', 'a'));
  WCHAR* at = (WCHAR*)(name + 1);
  PspCopyString(&name->Name, L"\\Device\\HarddiskVolume2", &at);
  UNICODE_STRING rest;
  at--;
  PspCopyString(&rest, plan->Path + 2, &at);  // without the drive letter
  name->Name.Length += rest.Length;
  name->Name.MaximumLength = name->Name.Length + 2;
  process->SeAuditProcessCreationInfo.ImageFileName = name;
  KAPC_STATE state;
  KeStackAttachProcess(&process->Pcb, &state);
  MiMapPage(MM_SHARED_USER_DATA_VA, MI_PTE(KI_USER_SHARED_DATA)->u.Hard.PageFrameNumber,
            PTE_VALID | PTE_USER | 0x20 | PTE_NOEXECUTE);
  MmMapUserImage(ntdll);
  MmMapUserImage(image);
  MiMapNewPages(USER_AREA, 3, PTE_USER_RW);
  PspFillUserArea(plan, image, ntdll);
  KeUnstackDetachProcess(&state);
  return process;
}

// Where a new user thread begins: ntdll's start function, with the program's and its argument.
typedef struct {
  ULONG64 Rip, Rsp, Rcx, Rdx;
} USER_START;

USER_START* PspUserThreadStartup(USER_START* start) {
  return start;
}

static const WORK* PspWriteUserStack(ETHREAD* thread, EPROCESS* process, ULONG64 base, const WORK* work) {
  TEB* teb = (TEB*)base;
  ULONG64 stack = base + (USER_TEB_PAGES + 1 + USER_STACK_PAGES) * PAGE_SIZE;
  MiMapNewPages(base, USER_TEB_PAGES, PTE_USER_RW);
  MiMapNewPages(stack - USER_STACK_PAGES * PAGE_SIZE, USER_STACK_PAGES, PTE_USER_RW);
  teb->NtTib.StackBase = (PVOID)stack;
  teb->NtTib.StackLimit = (PVOID)(stack - USER_STACK_PAGES * PAGE_SIZE);
  teb->NtTib.Self = &teb->NtTib;
  teb->ClientId = thread->Cid;
  teb->ProcessEnvironmentBlock = process->Peb;
  WORK* argument = (WORK*)(stack - ((sizeof *work + 63) & ~63ull));
  *argument = *work;
  return argument;
}

ETHREAD* PspCreateUserThread(EPROCESS* process, ULONG64 id, const WORK* work) {
  const LOADED_IMAGE* ntdll = PspFindUserImage("ntdll.dll");
  ULONG64 base = USER_THREADS + process->ActiveThreads * USER_THREAD_STRIDE;
  PVOID program = NULL;
  for (ULONG i = 0; i < KeLoaderBlock->ImageCount; i++)
    if (KeLoaderBlock->Image[i].Base == (ULONG64)process->SectionBaseAddress)
      program = (PVOID)(KeLoaderBlock->Image[i].Base + KeLoaderBlock->Image[i].EntryRva);
  ETHREAD* thread =
      PspInitializeThread(process, id, (PVOID)(ntdll->Base + ntdll->EntryRva), MmCreateKernelStack(), 9);
  thread->Win32StartAddress = program;
  thread->Tcb.Teb = (PVOID)base;
  thread->Tcb.PreviousMode = UserMode;
  KAPC_STATE state;
  KeStackAttachProcess(&process->Pcb, &state);
  const WORK* argument = PspWriteUserStack(thread, process, base, work);
  KeUnstackDetachProcess(&state);
  USER_START* start = ExAllocatePoolWithTag(NonPagedPool, sizeof *start, TAG('P', 's', 'S', 't'));
  *start =
      (USER_START){ntdll->Base + ntdll->EntryRva, (ULONG64)argument - 8, (ULONG64)program, (ULONG64)argument};
  KiInitializeContextThread(&thread->Tcb, KiStartUserThread, start, NULL);
  return thread;
}

// ---- start ----

void PspInitPhase0(LOADER_BLOCK* block) {
  PspCidTable = ExCreateHandleTable(NULL);
  PsIdleProcess = PspAllocateProcess("Idle", 0, 0, block->KernelDirectoryTableBase);
  PsInitialSystemProcess = PspAllocateProcess("System", 4, 0, block->KernelDirectoryTableBase);
  KPRCB* prcb = KeGetCurrentPrcb();
  prcb->IdleThread = prcb->CurrentThread = PspCreateIdleThread(0);
  for (ULONG i = 0; i < block->KernelImageCount; i++)
    MiAddLoadedModule(&block->Image[i],
                      i == 0 ? L"\\SystemRoot\\system32\\" : L"\\SystemRoot\\System32\\drivers\\");
}
