// Inside ntoskrnl: what its files need of each other. NTKERNELAPI: the real kernel exports it as well.
#pragma once
#define NTOSKRNL
#include "../inc/kd.h"
#include "../inc/loader.h"
#include "../inc/nt.h"
#include "../inc/work.h"

// ---- processor ----

FORCEINLINE KPCR* KeGetPcr(void) {
  KPCR* pcr;
  __asm__ volatile("movq %%gs:0x18, %0" : "=r"(pcr));
  return pcr;
}
FORCEINLINE KPRCB* KeGetCurrentPrcb(void) {
  return &KeGetPcr()->Prcb;
}
FORCEINLINE KTHREAD* KeGetCurrentThread(void) {
  KTHREAD* thread;
  __asm__ volatile("movq %%gs:0x188, %0" : "=r"(thread));
  return thread;
}
FORCEINLINE ETHREAD* PsGetCurrentThread(void) {
  return (ETHREAD*)KeGetCurrentThread();
}
FORCEINLINE EPROCESS* PsGetCurrentProcess(void) {
  return (EPROCESS*)KeGetCurrentThread()->ApcState.Process;
}

FORCEINLINE void WRITE_PORT_UCHAR(USHORT port, UCHAR value) {
  __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
FORCEINLINE void WRITE_PORT_USHORT(USHORT port, USHORT value) {
  __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
FORCEINLINE void WRITE_PORT_ULONG(USHORT port, ULONG value) {
  __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
FORCEINLINE UCHAR READ_PORT_UCHAR(USHORT port) {
  UCHAR value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
FORCEINLINE void __writemsr(ULONG msr, ULONG64 value) {
  __asm__ volatile("wrmsr" ::"c"(msr), "a"((ULONG)value), "d"((ULONG)(value >> 32)));
}
FORCEINLINE void __writecr3(ULONG64 value) {
  __asm__ volatile("movq %0, %%cr3" ::"r"(value) : "memory");
}
FORCEINLINE void __writecr8(ULONG64 value) {
  __asm__ volatile("movq %0, %%cr8" ::"r"(value) : "memory");
}
FORCEINLINE void __invlpg(PVOID va) {
  __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory");
}
FORCEINLINE void _mm_pause(void) {
  __asm__ volatile("pause");
}

#define MSR_STAR 0xC0000081
#define MSR_LSTAR 0xC0000082
#define MSR_SYSCALL_MASK 0xC0000084
#define MSR_GS_BASE 0xC0000101
#define MSR_KERNEL_GS_BASE 0xC0000102

// Segment selectors, as on every x64 Windows.
#define KGDT64_R0_CODE 0x10
#define KGDT64_R0_DATA 0x18
#define KGDT64_R3_DATA 0x28
#define KGDT64_R3_CODE 0x30
#define KGDT64_SYS_TSS 0x40
#define RPL_MASK 3

extern LOADER_BLOCK* KeLoaderBlock;
extern KPRCB* KiProcessorBlock[64];
extern ULONG KeNumberProcessors;
extern ULONG KeMaximumIncrement;
extern ULONG KeTimeIncrement;

// asm.S
void KiSwapContext(KTHREAD* old_thread, KTHREAD* new_thread);
void KiStartSystemThread(void);
void KiStartUserThread(void);
void KiSystemCall64(void);
void HalProcessorIdle(ULONG last);

// kernel.c
NORETURN void KiSystemStartup(LOADER_BLOCK* block);
void KiInitializeBootStructures(ULONG number);
void KiStartProcessor(ULONG number, KTHREAD* idle_thread);
NORETURN void KiIdleLoop(void);
extern volatile ULONG KiPlayIsOver, KiLastProcessorIdle;

// thread.c
void KeInitializeProcess(KPROCESS* process, LONG priority, ULONG64 directory_table_base);
void KeInitThread(KTHREAD* thread, PVOID stack_base, KPROCESS* process, LONG priority);
void KiInitializeContextThread(KTHREAD* thread, PVOID start, PVOID argument1, PVOID argument2);
void KiReadyThread(KTHREAD* thread);
LONG64 KiSwapThread(KTHREAD* old_thread, KPRCB* prcb);
void KiLoadContext(KPRCB* prcb, KTHREAD* new_thread);
void NtYieldExecution(void);
void KeStackAttachProcess(KPROCESS* process, KAPC_STATE* state);
void KeUnstackDetachProcess(KAPC_STATE* state);

// wait.c
NTSTATUS KiCommitThreadWait(KTHREAD* thread, KWAIT_REASON reason, CHAR mode, BOOLEAN alertable, ULONG blocks);
NTKERNELAPI NTSTATUS KeDelayExecutionThread(CHAR mode, BOOLEAN alertable, LARGE_INTEGER* interval);
void KeInitializeSemaphore(KSEMAPHORE* semaphore, LONG count, LONG limit);
void KeInitializeTimer(KTIMER* timer, ULONG type);
void KiUnlinkWait(KTHREAD* thread, NTSTATUS status);

// queue.c
void KeInitializeQueue(KQUEUE* queue, ULONG count);
LIST_ENTRY* KeRemoveQueueEx(KQUEUE* queue, CHAR mode, BOOLEAN alertable);
void KeInitializePriQueue(KPRIQUEUE* queue, ULONG count);
LIST_ENTRY* KeRemovePriQueue(KPRIQUEUE* queue, CHAR mode);
void KeInsertPriQueue(KPRIQUEUE* queue, LIST_ENTRY* entry, LONG priority);
void ExpInitializeWorkQueues(void);
void ExpWorkerThread(PVOID context);
extern EX_WORK_QUEUE* ExWorkQueues[2];
void ExQueueWorkItem(WORK_QUEUE_ITEM* item, ULONG queue);

// clock.c
void KeInitializeClock(void);
void KeAdvanceClock(ULONG ticks);
ULONG KeQueryTickCount(void);

// service.c: system calls
void KiInitializeSystemCall(void);
NTKERNELAPI NTSTATUS NtWaitForSingleObject(HANDLE handle, BOOLEAN alertable, LARGE_INTEGER* timeout);
NTSTATUS ObWaitForSingleObject(HANDLE handle, CHAR mode, BOOLEAN alertable, LARGE_INTEGER* timeout);
NTSTATUS NtDelayExecution(BOOLEAN alertable, LARGE_INTEGER* interval);
NTSTATUS NtRemoveIoCompletion(HANDLE handle, PVOID* key, PVOID* context, IO_STATUS_BLOCK* status,
                              LARGE_INTEGER* timeout);
NTSTATUS IoRemoveIoCompletion(KQUEUE* queue, CHAR mode, BOOLEAN alertable);

// resource.c
extern LIST_ENTRY ExpSystemResourcesList;
void ExpWaitForResource(ERESOURCE* resource, PVOID* ring, ULONG* count);
BOOLEAN ExpAcquireResourceExclusiveLite(ERESOURCE* resource);
BOOLEAN ExpAcquireResourceSharedLite(ERESOURCE* resource);

// pool.c
void ExInitializePool(void);
ULONG64 MiNonPagedPoolPhysical(PVOID block);

// handle.c
HANDLE_TABLE* ExCreateHandleTable(EPROCESS* process);
HANDLE ExCreateHandle(HANDLE_TABLE* table, PVOID object, ULONG access);
void ExpSetHandle(HANDLE_TABLE* table, ULONG64 value, PVOID object);
HANDLE_TABLE_ENTRY* ExpLookupHandleTableEntry(HANDLE_TABLE* table, ULONG64 value);
extern HANDLE_TABLE* PspCidTable;
extern LIST_ENTRY HandleTableListHead;

// object.c
extern OBJECT_TYPE *ObpTypeObjectType, *ObpDirectoryObjectType, *ObpSymbolicLinkObjectType,
    *IoCompletionObjectType;
NTKERNELAPI extern OBJECT_TYPE *ExEventObjectType, *ExMutantObjectType, *ExSemaphoreObjectType,
    *IoDriverObjectType, *IoDeviceObjectType, *IoFileObjectType, *PsProcessType, *PsThreadType,
    *SeTokenObjectType;
extern OBJECT_DIRECTORY* ObpRootDirectoryObject;
extern OBJECT_TYPE* ObTypeIndexTable[256];
extern UCHAR ObHeaderCookie;
void ObInitSystem(void);
PVOID ObCreateObject(OBJECT_TYPE* type, ULONG64 size, OBJECT_DIRECTORY* directory,
                     const UNICODE_STRING* name);
OBJECT_DIRECTORY* ObpCreateDirectory(OBJECT_DIRECTORY* parent, const WCHAR* name);
void ObpCreateSymbolicLink(OBJECT_DIRECTORY* parent, const WCHAR* name, const WCHAR* target);
PVOID ObpLookupDirectoryEntry(OBJECT_DIRECTORY* directory, const UNICODE_STRING* name);
OBJECT_DIRECTORY* ObpLookupRoot(const WCHAR* name);
OBJECT_TYPE* ObGetObjectType(PVOID object);
NTSTATUS ObReferenceObjectByHandle(HANDLE handle, OBJECT_TYPE* type, PVOID* object);
HANDLE ObpCreateHandle(EPROCESS* process, PVOID object, ULONG access);
NTSTATUS ObpLookupObjectName(const UNICODE_STRING* name, PVOID parse_context, PVOID* object);
NTSTATUS ObOpenObjectByNameEx(OBJECT_ATTRIBUTES* attributes, ULONG access, PVOID parse_context,
                              HANDLE* handle);

// io.c
typedef struct _OPEN_PACKET {
  ULONG DesiredAccess, CreateOptions, Disposition, ShareAccess;
  IO_STATUS_BLOCK* UserIosb;
} OPEN_PACKET;
void IoInitSystem(void);
void IopLoadDriver(const WCHAR* image, const WCHAR* name, BOOLEAN file_system);
NTSTATUS IoCallDriverWithTracing(DEVICE_OBJECT* device, IRP* irp);
NTSTATUS IopParseDevice(DEVICE_OBJECT* device, OPEN_PACKET* packet, const UNICODE_STRING* remaining,
                        PVOID* object);
NTSTATUS IopCreateFile(HANDLE* handle, ULONG access, OBJECT_ATTRIBUTES* attributes, IO_STATUS_BLOCK* status,
                       ULONG share, ULONG disposition, ULONG options);
NTKERNELAPI NTSTATUS NtCreateFile(HANDLE* handle, ULONG access, OBJECT_ATTRIBUTES* attributes,
                                  IO_STATUS_BLOCK* status, LARGE_INTEGER* size, ULONG file_attributes,
                                  ULONG share, ULONG disposition, ULONG options, PVOID ea, ULONG ea_length);
NTKERNELAPI NTSTATUS NtSetInformationFile(HANDLE handle, IO_STATUS_BLOCK* status, PVOID information,
                                          ULONG length, ULONG information_class);

// mm.c
void MmInitSystem(LOADER_BLOCK* block);
ULONG64 MiAllocatePage(void);
void MiMapPage(ULONG64 va, ULONG64 frame, ULONG64 flags);
void MiMapNewPages(ULONG64 va, ULONG64 pages, ULONG64 flags);
PVOID MiMapTemporary(ULONG64 frame);
PVOID MmCreateKernelStack(void);
ULONG64 MmCreateProcessAddressSpace(void);
void MmMapUserImage(const LOADED_IMAGE* image);
PVOID MmAllocatePagedPoolPage(void);
void MmFreeLoaderMemory(void);
extern PVOID MmPfnDatabase;
extern ULONG64 MmPteBase;
extern PHYSICAL_MEMORY_DESCRIPTOR* MmPhysicalMemoryBlock;

// process.c
extern EPROCESS* PsIdleProcess;
extern LIST_ENTRY PsActiveProcessHead;
NTKERNELAPI extern LIST_ENTRY PsLoadedModuleList;
typedef struct _PROCESS_PLAN {
  const char* Name;      // "php-cgi.exe"
  const WCHAR* Path;     // C:\...
  const WCHAR* Command;  // command line
  const char* Image;     // file name of the user image that it runs
  ULONG Id, Parent, Session;
} PROCESS_PLAN;
void PspInitPhase0(LOADER_BLOCK* block);
EPROCESS* PspAllocateProcess(const char* name, ULONG64 id, ULONG64 parent, ULONG64 directory_table_base);
ETHREAD* PsCreateSystemThread(EPROCESS* process, ULONG64 id, void (*start)(PVOID), PVOID context,
                              LONG priority);
EPROCESS* PspCreateUserProcess(const PROCESS_PLAN* plan);
ETHREAD* PspCreateUserThread(EPROCESS* process, ULONG64 id, const WORK* work);
KTHREAD* PspCreateIdleThread(ULONG number);
KLDR_DATA_TABLE_ENTRY* PspFindLoadedModule(const WCHAR* name);

// kd.c
NTKERNELAPI extern CHAR NtBuildLab[];
NTKERNELAPI extern ULONG NtBuildNumber;
extern DBGKD_GET_VERSION64 KdVersionBlock;
extern KDDEBUGGER_DATA64 KdDebuggerDataBlock;
extern PVOID KdpDecodedCopy;
void KdInitSystem(LOADER_BLOCK* block);

// crash.c
void IoInitializeCrashDump(void);

// scene.c
void Phase1Initialization(PVOID context);
