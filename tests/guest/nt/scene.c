// The play. php-cgi.exe creates a session file in \Windows\Temp and, on processor 1, looks for a short name
// for it while it holds the directory. A service wants to move a file there and holds the profile directory
// meanwhile. Whoever logs on needs the profile. The clock jumps, so that waits of minutes take no time; then
// the machine freezes. What stands on the stage is printed for dump.py: the analysis must find the same.
#include "ntp.h"

#define SECONDS(n) ((n) * 64u)
#define MOST_ACTORS 32

typedef struct _ACTOR {
  EPROCESS* Process;
  ETHREAD* Thread;
  const char* State;
  const char* Reason;
  const char* Lock;  // the resource that it waits for
  PVOID Object;      // the object that it waits for, where it is not a resource's
  ULONG Since;       // tick of its last wait
} ACTOR;

static ACTOR actors[MOST_ACTORS];
static ULONG actor_count;
static KEVENT MiZeroPageEvent, KiBalanceSetEvent;
static KTIMER KiBalanceSetTimer;

#define PHP(pid) \
  {"php-cgi.exe", L"C:\\PHP\\php-cgi.exe", L"\"C:\\PHP\\php-cgi.exe\"", "php-cgi.exe", pid, 3120, 0}
static const PROCESS_PLAN plans[] = {
    {"smss.exe", L"C:\\Windows\\System32\\smss.exe", L"\\SystemRoot\\System32\\smss.exe", "service.exe", 368,
     4, 0},
    {"winlogon.exe", L"C:\\Windows\\System32\\winlogon.exe", L"winlogon.exe", "service.exe", 612, 368, 1},
    {"lsass.exe", L"C:\\Windows\\System32\\lsass.exe", L"C:\\Windows\\system32\\lsass.exe", "service.exe",
     696, 368, 0},
    {"svchost.exe", L"C:\\Windows\\System32\\svchost.exe",
     L"C:\\Windows\\system32\\svchost.exe -k netsvcs -s ProfSvc", "service.exe", 1044, 696, 0},
    {"svchost.exe", L"C:\\Windows\\System32\\svchost.exe",
     L"C:\\Windows\\System32\\svchost.exe -k NetworkService -s TermService", "service.exe", 1128, 696, 0},
    {"w3wp.exe", L"C:\\Windows\\System32\\inetsrv\\w3wp.exe",
     L"c:\\windows\\system32\\inetsrv\\w3wp.exe -ap \"DefaultAppPool\"", "service.exe", 3120, 1044, 0},
    PHP(4212),
    PHP(4588),
    PHP(4620),
    PHP(4704),
    PHP(4812),
    PHP(4936),
    PHP(5008),
    PHP(5124),
};
#define FIRST_LATE 5  // those before it start with the machine
static EPROCESS* processes[COUNT_OF(plans)];

// Requests that come while the owner works: when, in seconds after the one before, which process, which file.
static const struct {
  ULONG After, Process;
  const WCHAR* File;
} requests[] = {
    {3, 4588, L"\\??\\C:\\Windows\\Temp\\sess_j0c2mln4t8vq71dp3k5srbu6ea"},
    {40, 4620, L"\\??\\C:\\Windows\\Temp\\sess_m5u1r7kdq0v3pb9ct2hn46jsle"},
    {60, 4704, L"\\??\\C:\\Windows\\Temp\\sess_2c8i0nfp6d3lqv7hm1rk9sbt4u"},
    {60, 4812, L"\\??\\C:\\Windows\\Temp\\sess_a7l3ud5q0vk2rmp9b8ct1nshj6"},
    {75, 4936, L"\\??\\C:\\Windows\\Temp\\sess_p1t6ke0b4v8mh7nq3ru5d2lsc9"},
    {33, 5008, L"\\??\\C:\\Windows\\Temp\\sess_u9d0h2s5m7v4cqb1tk8r3npl6e"},
    {11, 5124, L"\\??\\C:\\Windows\\Temp\\sess_4r2vb6t9k0np8hd7mu1ql5sce3"},
};

static EPROCESS* process(ULONG id) {
  for (ULONG i = 0; i < COUNT_OF(plans); i++)
    if (plans[i].Id == id) return processes[i];
  return PsInitialSystemProcess;
}

// ---- actors ----

static ACTOR* cast(ETHREAD* thread, EPROCESS* of, const char* reason, const char* lock, PVOID object) {
  ACTOR* actor = &actors[actor_count++];
  *actor = (ACTOR){of, thread, "Waiting", reason, lock, object, KeQueryTickCount()};
  return actor;
}

static ETHREAD* user_thread(ULONG pid, ULONG64 id, const WORK* work, const char* reason, const char* lock,
                            PVOID object) {
  ETHREAD* thread = PspCreateUserThread(process(pid), id, work);
  cast(thread, process(pid), reason, lock, object);
  KiReadyThread(&thread->Tcb);
  NtYieldExecution();  // it runs now, until it waits
  return thread;
}

static void set_text(WCHAR* to, const WCHAR* text) {
  while ((*to++ = *text++) != 0) {
  }
}

static ETHREAD* file_thread(ULONG pid, ULONG64 id, ULONG kind, const WCHAR* path, const WCHAR* target,
                            const char* lock) {
  WORK work = {kind, NULL, 0, {0}, {0}};
  set_text(work.Path, path);
  if (target != NULL) set_text(work.Target, target);
  return user_thread(pid, id, &work, "WrResource", lock, NULL);
}

static void event_thread(ULONG pid, ULONG64 id) {
  KEVENT* event = ObCreateObject(ExEventObjectType, sizeof *event, NULL, NULL);
  KeInitializeEvent(event, EventSynchronizationObject, FALSE);
  WORK work = {WORK_WAIT, ObpCreateHandle(process(pid), event, SYNCHRONIZE), 0, {0}, {0}};
  user_thread(pid, id, &work, "UserRequest", NULL, event);
}

static void queue_thread(ULONG pid, ULONG64 id) {
  KQUEUE* queue = ObCreateObject(IoCompletionObjectType, sizeof *queue, NULL, NULL);
  KeInitializeQueue(queue, LOADER_PROCESSORS);
  WORK work = {WORK_QUEUE, ObpCreateHandle(process(pid), queue, 3), 0, {0}, {0}};
  user_thread(pid, id, &work, "WrQueue", NULL, queue);
}

static void sleeping_thread(ULONG pid, ULONG64 id, LONG64 seconds) {
  WORK work = {WORK_SLEEP, NULL, -seconds * 10000000, {0}, {0}};
  ETHREAD* thread = user_thread(pid, id, &work, "DelayExecution", NULL, NULL);
  actors[actor_count - 1].Object = &thread->Tcb.Timer;
}

static void system_thread(ULONG64 id, void (*start)(PVOID), PVOID context, const char* reason, PVOID object) {
  ETHREAD* thread = PsCreateSystemThread(PsInitialSystemProcess, id, start, context, 12);
  cast(thread, PsInitialSystemProcess, reason, NULL, object);
  KiReadyThread(&thread->Tcb);
  NtYieldExecution();
}

// Opens a file as a process, from this thread.
static FILE_OBJECT* open_for(ULONG pid, const WCHAR* path, ULONG options) {
  UNICODE_STRING name;
  RtlInitUnicodeString(&name, path);
  OBJECT_ATTRIBUTES attributes = {sizeof attributes, NULL, &name, 0x40, NULL, NULL};
  IO_STATUS_BLOCK status;
  HANDLE handle;
  PVOID file = NULL;
  KAPC_STATE state;
  KeStackAttachProcess(&process(pid)->Pcb, &state);
  NTSTATUS result = IopCreateFile(&handle, FILE_READ_DATA | SYNCHRONIZE, &attributes, &status,
                                  FILE_SHARE_READ, FILE_OPEN, options);
  if (NT_SUCCESS(result)) ObReferenceObjectByHandle(handle, IoFileObjectType, &file);
  KeUnstackDetachProcess(&state);
  if (file == NULL) DbgPrint("cannot open a file: %x\n", (ULONG64)(ULONG)result);
  return file;
}

static ERESOURCE* resource_of(const FILE_OBJECT* file) {
  return ((FSRTL_ADVANCED_FCB_HEADER*)file->FsContext)->Resource;
}

void KeBalanceSetManager(PVOID context) {
  PVOID objects[] = {&KiBalanceSetTimer, &KiBalanceSetEvent};
  KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL);
}

void MiZeroPageThread(void) {
  KeWaitForSingleObject(&MiZeroPageEvent, WrFreePage, KernelMode, FALSE, NULL);
}

// ---- what is printed ----

static void print_text(const char* text) {
  for (; *text; text++) DbgPrint(*text == '\\' ? "\\\\" : "%c", (ULONG64)(UCHAR)*text);
}

static void print_process(EPROCESS* p) {
  DbgPrint(
      "TRUTH {\"kind\": \"process\", \"address\": \"0x%p\", \"name\": \"%s\", \"pid\": %u, \"parent_pid\": "
      "%u}\n",
      p, p->ImageFileName, p->UniqueProcessId, p->InheritedFromUniqueProcessId);
}

static void print_actor(const ACTOR* a) {
  ETHREAD* t = a->Thread;
  DbgPrint(
      "TRUTH {\"kind\": \"thread\", \"address\": \"0x%p\", \"process\": \"%s\", \"pid\": %u, \"tid\": %u, "
      "\"state\": \"%s\"",
      t, a->Process->ImageFileName, t->Cid.UniqueProcess, t->Cid.UniqueThread, a->State);
  if (a->Reason != NULL)
    DbgPrint(", \"wait_reason\": \"%s\", \"waited_ms\": %u", a->Reason,
             (ULONG64)(KeQueryTickCount() - a->Since) * 15625 / 1000);
  if (a->Object != NULL) DbgPrint(", \"object\": \"0x%p\"", a->Object);
  if (a->Lock != NULL) {
    DbgPrint(", \"lock\": \"");
    print_text(a->Lock);
    DbgPrint("\"");
  }
  if (!IsListEmpty(&t->IrpList))
    DbgPrint(", \"irp\": \"0x%p\"", CONTAINING_RECORD(t->IrpList.Flink, IRP, ThreadListEntry));
  DbgPrint("}\n");
}

static void print_lock(const char* name, const ERESOURCE* resource, const ETHREAD* owner) {
  DbgPrint("TRUTH {\"kind\": \"lock\", \"address\": \"0x%p\", \"protects\": \"", resource);
  print_text(name);
  DbgPrint("\", \"mode\": \"exclusive\", \"owner\": \"0x%p\"}\n", owner);
}

static void print_cpu(ULONG number, const char* mode, PVOID thread) {
  DbgPrint("TRUTH {\"kind\": \"cpu\", \"number\": %u, \"mode\": \"%s\", \"thread\": \"0x%p\"}\n",
           (ULONG64)number, mode, thread);
}

static void print_modules(void) {
  for (LIST_ENTRY* e = PsLoadedModuleList.Flink; e != &PsLoadedModuleList; e = e->Flink) {
    KLDR_DATA_TABLE_ENTRY* m = (KLDR_DATA_TABLE_ENTRY*)e;
    DbgPrint("TRUTH {\"kind\": \"module\", \"name\": \"%Z\", \"base\": \"0x%p\", \"size\": %u}\n",
             &m->BaseDllName, m->DllBase, (ULONG64)m->SizeOfImage);
  }
}

// ---- acts ----

// Threads with nothing to do, as most of every machine's are.
static void raise_curtain(void) {
  KeInitializeTimer(&KiBalanceSetTimer, TimerSynchronizationObject);
  KeInitializeEvent(&KiBalanceSetEvent, EventSynchronizationObject, FALSE);
  KeInitializeEvent(&MiZeroPageEvent, EventSynchronizationObject, FALSE);
  for (ULONG i = 0; i < 3; i++)
    system_thread(24 + i * 4, ExpWorkerThread, ExWorkQueues[0], "WrQueue", ExWorkQueues[0]);
  system_thread(64, KeBalanceSetManager, NULL, "Executive", &KiBalanceSetTimer);
  event_thread(368, 372);
  event_thread(612, 616);
  queue_thread(696, 700);
  queue_thread(1044, 1048);
  queue_thread(1128, 1132);
  sleeping_thread(1128, 1136, 3600);
  queue_thread(3120, 3124);
  event_thread(4212, 4220);
  event_thread(4588, 4596);
  event_thread(4704, 4712);
}

void Phase1Initialization(PVOID context) {
  ETHREAD* self = PsGetCurrentThread();
  KiStartProcessor(1, PspCreateIdleThread(1));
  IoInitSystem();
  IoInitializeCrashDump();
  IopLoadDriver(L"volmgr.sys", L"volmgr", FALSE);
  IopLoadDriver(L"Ntfs.sys", L"Ntfs", TRUE);
  ObpCreateSymbolicLink(ObpLookupRoot(L"GLOBAL??"), L"C:", L"\\Device\\HarddiskVolume2");
  for (ULONG i = 0; i < FIRST_LATE; i++) processes[i] = PspCreateUserProcess(&plans[i]);
  KeAdvanceClock(SECONDS(19 * 86400));
  for (ULONG i = FIRST_LATE; i < COUNT_OF(plans); i++) processes[i] = PspCreateUserProcess(&plans[i]);
  raise_curtain();
  ERESOURCE* temp = resource_of(open_for(3120, L"\\??\\C:\\Windows\\Temp", FILE_DIRECTORY_FILE));
  ERESOURCE* profile = resource_of(open_for(1044, L"\\??\\C:\\Users\\Administrator", FILE_DIRECTORY_FILE));
  open_for(4588, L"\\??\\C:\\Windows\\Temp\\sess_htjf1gdj53gvlbu0s830bc0vlb", 0);
  open_for(4620, L"\\??\\C:\\Windows\\Temp\\sess_3cfpnh6b07paduhcibaqr0urdu", 0);
  open_for(5008, L"\\??\\C:\\Windows\\Temp\\sess_7i98dsmo9fm65oudh87u4l9r5o", 0);
  KeAdvanceClock(SECONDS(1800));

  // The owner starts on the other processor and stays there.
  WORK create = {WORK_CREATE, NULL, 0, L"\\??\\C:\\Windows\\Temp\\sess_hk41vs8c5u6dqm0pj2e7r9tbna", {0}};
  ETHREAD* owner = PspCreateUserThread(process(4212), 4216, &create);
  owner->Tcb.NextProcessorNumber = owner->Tcb.IdealProcessor = 1;
  cast(owner, process(4212), NULL, NULL, NULL)->State = "Running";
  KiReadyThread(&owner->Tcb);
  while (*(volatile ULONG64*)&temp->OwnerEntry.OwnerThread != (ULONG64)owner) _mm_pause();
  KeAdvanceClock(SECONDS(2));

  ETHREAD* service = file_thread(1044, 1072, WORK_RENAME, L"\\??\\C:\\Users\\Administrator\\ntuser.tmp",
                                 L"\\Windows\\Temp\\ntuser.tmp", "\\Windows\\Temp");
  KeAdvanceClock(SECONDS(5));
  file_thread(612, 640, WORK_OPEN, L"\\??\\C:\\Users\\Administrator\\NTUSER.DAT", NULL,
              "\\Users\\Administrator");
  KeAdvanceClock(SECONDS(12));
  file_thread(1128, 1204, WORK_CREATE, L"\\??\\C:\\Users\\Administrator\\rdp.log", NULL,
              "\\Users\\Administrator");
  for (ULONG i = 0; i < COUNT_OF(requests); i++) {
    KeAdvanceClock(SECONDS(requests[i].After));
    file_thread(requests[i].Process, requests[i].Process + 4, WORK_CREATE, requests[i].File, NULL,
                "\\Windows\\Temp");
  }
  KeAdvanceClock(SECONDS(1));

  cast(self, PsInitialSystemProcess, "WrFreePage", NULL, &MiZeroPageEvent);
  MmFreeLoaderMemory();
  print_process(PsInitialSystemProcess);
  for (ULONG i = 0; i < COUNT_OF(plans); i++) print_process(processes[i]);
  for (ULONG i = 0; i < actor_count; i++) print_actor(&actors[i]);
  print_lock("\\Windows\\Temp", temp, owner);
  print_lock("\\Users\\Administrator", profile, service);
  print_cpu(0, "idle", KiProcessorBlock[0]->IdleThread);
  print_cpu(1, "kernel", owner);
  print_modules();
  DbgPrint("MEMORY %u\n", KeLoaderBlock->MemoryPages);
  KiPlayIsOver = 1;
  MiZeroPageThread();
}
