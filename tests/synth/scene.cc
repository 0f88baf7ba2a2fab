#include "synth/scene.h"

namespace unhang::synth {

namespace {

const Labels kOpen{"Ntfs!NtfsCommonCreate", "Ntfs!NtfsFsdCreate", "nt!IofCallDriver",
                   "fltmgr!FltpCreate",     "nt!IofCallDriver",   "nt!IopParseDevice",
                   "nt!ObOpenObjectByName", "nt!NtCreateFile",    "nt!KiSystemServiceCopyEnd"};
const Labels kFromUser{"nt!NtWaitForSingleObject", "nt!KiSystemServiceCopyEnd"};

// Threads that every machine has: they have nothing to do.
void idle_threads(Scene& s) {
  Machine& m = *s.machine;
  const VirtAddr queue = m.add_queue();
  for (u64 i = 0; i < 3; i++) {
    const VirtAddr worker = m.add_thread(m.system_process(), 0x20 + i * 4);
    m.block(worker, 15, {queue}, 400'000,
            {"nt!KeRemoveQueueEx", "nt!ExpWorkerThread", "nt!PspSystemThreadStartup"});
  }
  const VirtAddr services = m.add_process("services.exe", 500);
  const VirtAddr waiter = m.add_thread(services, 504);
  m.block(waiter, 6, {m.add_event(false)}, 5'000'000, kFromUser);
  for (const auto& [name, pid] : {std::pair{"smss.exe", 300}, {"wininit.exe", 480}}) {
    const VirtAddr t = m.add_thread(m.add_process(name, static_cast<u64>(pid)), static_cast<u64>(pid) + 4);
    m.block(t, 6, {m.add_event(false)}, 5'000'000, kFromUser);
  }
  const VirtAddr sleeper = m.add_thread(services, 508);
  m.block(sleeper, 4, {m.add_event(false)}, 30,
          {"nt!KeDelayExecutionThread", "nt!NtDelayExecution", "nt!KiSystemServiceCopyEnd"});
}

VirtAddr create_irp(Machine& m, VirtAddr thread, VirtAddr file) {
  return m.add_irp(thread, {{.device = m.filter_device(), .file = file},
                            {.device = m.ntfs_device(),
                             .file = file,
                             .completion = m.address_of("fltmgr!FltpPassThroughCompletion")}});
}

}  // namespace

Scene busy_owner(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "busy-owner"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr windows = m.add_resource(), temp = m.add_resource();
  const VirtAddr windows_fcb = m.add_fcb(windows), temp_fcb = m.add_fcb(temp);
  const VirtAddr logonui = m.add_process("LogonUI.exe", 3084, 2),
                 winlogon = m.add_process("winlogon.exe", 3060, 2),
                 explorer = m.add_process("explorer.exe", 1784, 1);
  m.add_handle(explorer, m.add_file("\\Windows", windows_fcb));
  std::vector<VirtAddr> php;
  for (u64 i = 0; i < 4; i++) php.push_back(m.add_process("php-cgi.exe", 3500 + i * 4));
  m.add_handle(php[0], m.add_file("\\Windows\\Temp", temp_fcb));
  for (u64 i = 0; i < 4; i++)
    for (u64 k = 0; k < 3; k++)
      m.add_handle(php[i], m.add_file("\\Windows\\Temp\\sess_" + std::to_string(i * 10 + k) + "abc"));

  const VirtAddr owner = m.add_thread(php[0], 3428);
  m.own_exclusive(temp, owner);
  s.object["irp"] = create_irp(m, owner, m.add_file("\\Windows\\Temp\\sess_0new"));
  Labels running{"Ntfs!NtfsFindIndexEntry", "Ntfs!NtfsLookupEntry"};
  running.insert(running.end(), kOpen.begin(), kOpen.end());
  m.run(owner, 1, running);
  for (u64 i = 1; i < 4; i++) {
    const VirtAddr t = m.add_thread(php[i], 3600 + i * 4);
    create_irp(m, t, m.add_file("\\Windows\\Temp\\sess_" + std::to_string(i) + "wait"));
    m.wait_for_resource(t, temp, true, static_cast<u32>(20 * i), kOpen);
  }
  const VirtAddr logon = m.add_thread(logonui, 3436);
  m.own_shared(windows, {logon});
  m.wait_for_resource(logon, temp, true, 71, kOpen);
  for (u64 i = 0; i < 4; i++) {
    const VirtAddr t = m.add_thread(i % 2 == 0 ? winlogon : explorer, 3700 + i * 4);
    m.wait_for_resource(t, windows, i % 2 == 0, static_cast<u32>(30 + i * 10), kOpen);
    s.thread["waiter" + std::to_string(i)] = t;
  }
  m.set(temp, "_ERESOURCE", "ContentionCount", 48'000'000);
  s.thread["owner"] = owner;
  s.thread["logonui"] = logon;
  s.object["windows"] = windows;
  s.object["temp"] = temp;
  s.culprit = owner;
  return s;
}

Scene deadlock(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "deadlock"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("backup.exe", 2000);
  const VirtAddr a = m.add_thread(p, 2004), b = m.add_thread(p, 2008), c = m.add_thread(p, 2012);
  const VirtAddr ra = m.add_resource(), rb = m.add_resource();
  m.own_exclusive(ra, a);
  m.own_exclusive(rb, b);
  m.wait_for_resource(a, rb, true, 19'200, kOpen);
  m.wait_for_resource(b, ra, false, 19'000, kOpen);
  m.wait_for_resource(c, ra, true, 10'000, kOpen);
  s.thread = {{"a", a}, {"b", b}, {"c", c}};
  s.object = {{"ra", ra}, {"rb", rb}};
  s.culprit = a;  // the longest waiter of the cycle
  return s;
}

Scene mixed_deadlock(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "deadlock"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("sqlservr.exe", 2100);
  const VirtAddr a = m.add_thread(p, 2104), b = m.add_thread(p, 2108), c = m.add_thread(p, 2112);
  const VirtAddr r = m.add_resource(), mutant = m.add_mutant(b), fast = m.add_fast_mutex(c);
  m.own_exclusive(r, a);
  m.wait_for_mutant(a, mutant, 6400, kFromUser);
  m.wait_for_fast_mutex(b, fast, 6300, kOpen);
  m.wait_for_resource(c, r, true, 6200, kOpen);
  const VirtAddr winlogon = m.add_process("winlogon.exe", 600, 1);
  for (u64 i = 0; i < 3; i++)
    m.wait_for_resource(m.add_thread(winlogon, 604 + i * 4), r, i == 0, 5000, kOpen);
  s.thread = {{"a", a}, {"b", b}, {"c", c}};
  s.culprit = a;
  return s;
}

Scene io_stall(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "io-stall"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr r = m.add_resource(), fcb = m.add_fcb(r);
  const VirtAddr p = m.add_process("svchost.exe", 900);
  const VirtAddr file = m.add_file("\\Windows\\System32\\config\\SYSTEM", fcb);
  m.add_handle(p, file);
  const VirtAddr holder = m.add_thread(p, 904);
  m.own_exclusive(r, holder);
  s.object["irp"] = m.wait_for_io(
      holder,
      {{.device = m.ntfs_device(), .major = 3, .file = file},
       {.device = m.disk_device(), .major = 3, .completion = m.address_of("Ntfs!NtfsReadComplete")},
       {.device = m.port_device(), .major = 0xf, .completion = m.address_of("disk!DiskComplete")}},
      7'680,
      {"Ntfs!NtfsNonCachedIo", "Ntfs!NtfsCommonRead", "Ntfs!NtfsFsdRead", "nt!IofCallDriver", "nt!NtReadFile",
       "nt!KiSystemServiceCopyEnd"});
  const VirtAddr lsass = m.add_process("lsass.exe", 520);
  for (u64 i = 0; i < 4; i++)
    m.wait_for_resource(m.add_thread(lsass, 524 + i * 4), r, i % 2 == 0, static_cast<u32>(7'000 - i * 500),
                        kOpen);
  s.thread["holder"] = holder;
  s.culprit = holder;
  return s;
}

Scene orphaned_lock(MachineOptions options) {
  Scene s{
      .machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "orphaned-lock"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("installer.exe", 2200);
  const VirtAddr dead = m.add_thread(p, 2204), alive = m.add_thread(p, 2208);
  const VirtAddr r = m.add_resource();
  m.own_exclusive(r, dead);
  m.terminate(dead);
  m.wait_for_resource(alive, r, true, 64'000, kOpen);
  s.thread = {{"dead", dead}, {"alive", alive}};
  s.culprit = dead;
  return s;
}

Scene cpu_spin(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "cpu-spin"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("victim.exe", 2300);
  const VirtAddr t = m.add_thread(p, 2304);
  m.run(t, 1,
        {"nt!KeAcquireSpinLockRaiseToDpc", "netkvm!RxDpc", "netkvm!DpcRoutine", "nt!KiExecuteAllDpcs",
         "nt!KiRetireDpcList", "nt!KiInterruptDispatch", "nt!MiZeroPages", "nt!PspSystemThreadStartup"});
  for (u64 i = 0; i < 3; i++) m.make_ready(m.add_thread(p, 2308 + i * 4), 1, 2000);
  s.thread["victim"] = t;
  s.culprit = t;
  return s;
}

Scene queued_spin(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "cpu-spin"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr victim = m.add_thread(m.add_process("victim.exe", 2300), 2304),
                 holder = m.add_thread(m.system_process(), 120), lock = m.alloc(8);
  m.queue_for_spin_lock(lock, m.keep_on_stack(holder, 0));
  m.queue_for_spin_lock(lock, m.keep_on_dpc_stack(1));
  m.run(holder, 0, {"avfilter!FlushTable", "avfilter!Worker", "nt!PspSystemThreadStartup"}, 800);
  m.run(victim, 1,
        {"nt!KeAcquireInStackQueuedSpinLockAtDpcLevel", "avfilter!Timer", "nt!KiExecuteAllDpcs",
         "nt!KiRetireDpcList", "nt!KxRetireDpcList", "nt!KiInterruptDispatch", "nt!MiZeroPages",
         "nt!PspSystemThreadStartup"});
  for (u64 i = 0; i < 3; i++) m.make_ready(m.add_thread(m.system_process(), 2308 + i * 4), 1, 2000);
  s.thread = {{"victim", victim}, {"holder", holder}};
  s.object = {{"lock", lock}};
  s.culprit = holder;
  return s;
}

Scene long_chain(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "cpu-spin"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr logonui = m.add_process("LogonUI.exe", 3084, 2), lsass = m.add_process("lsass.exe", 620, 0),
                 av = m.add_process("MsMpEng.exe", 2900, 0);
  const VirtAddr logon = m.add_thread(logonui, 3436), server = m.add_thread(lsass, 700),
                 section_owner = m.add_thread(lsass, 704), system = m.add_thread(m.system_process(), 116),
                 spinner = m.add_thread(av, 2904);
  const VirtAddr port = m.add_alpc_port(lsass, "\\RPC Control\\lsasspirpc");
  m.add_handle(lsass, port);
  const VirtAddr section = m.add_critical_section(section_owner), lock = m.add_push_lock(),
                 mutex = m.add_fast_mutex(spinner);
  m.wait_for_reply(logon, port, server, 19'000);
  m.wait_for_critical_section(server, section, 18'900);
  m.own_push_lock(lock, system);
  m.wait_for_push_lock(section_owner, lock, 18'800, {"nt!NtQueryVirtualMemory", "nt!KiSystemServiceCopyEnd"});
  m.wait_for_fast_mutex(system, mutex, 18'700, {"fltmgr!FltpWorker", "nt!PspSystemThreadStartup"});
  m.run(spinner, 1,
        {"avfilter!ScanLoop", "avfilter!PreCreate", "fltmgr!FltpPerformPreCallbacks", "nt!IofCallDriver",
         "nt!NtCreateFile", "nt!KiSystemServiceCopyEnd"},
        18'750);
  for (u64 i = 0; i < 3; i++)
    m.wait_for_reply(m.add_thread(logonui, 3500 + i * 4), port, {}, static_cast<u32>(15'000 + i * 100));
  s.thread = {{"logon", logon},
              {"server", server},
              {"section_owner", section_owner},
              {"system", system},
              {"spinner", spinner}};
  s.object = {{"section", section}, {"push_lock", lock}, {"mutex", mutex}, {"port", port}};
  s.culprit = spinner;
  return s;
}

Scene user_deadlock(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "deadlock"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("w3wp.exe", 2400);
  const VirtAddr a = m.add_thread(p, 2404), b = m.add_thread(p, 2408), c = m.add_thread(p, 2412);
  const VirtAddr first = m.add_critical_section(a), second = m.add_critical_section(b);
  m.wait_for_critical_section(a, second, 9000);
  m.wait_for_critical_section(b, first, 8900);
  m.wait_for_critical_section(c, first, 8000);
  // Another process has a section at the same address that is nobody's business.
  const VirtAddr other = m.add_process("php-cgi.exe", 2500);
  const VirtAddr d = m.add_thread(other, 2504), e = m.add_thread(other, 2508);
  const VirtAddr twin = m.add_critical_section(d);
  m.block(d, 6, {m.add_event()}, 3, kFromUser);
  m.wait_for_critical_section(e, twin, 2);
  s.thread = {{"a", a}, {"b", b}, {"c", c}};
  s.object = {{"first", first}, {"second", second}, {"twin", twin}};
  s.culprit = a;
  return s;
}

Scene work_queue_deadlock(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "deadlock"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("backup.exe", 2600);
  const VirtAddr holder = m.add_thread(p, 2604), r = m.add_resource(), queue = m.add_work_queue();
  m.own_exclusive(r, holder);
  const VirtAddr context = m.keep_on_stack(holder, 0);
  m.wait_for_event_on_stack(
      holder, 6400, {"Ntfs!NtfsFlushUserStream", "nt!NtFlushBuffersFile", "nt!KiSystemServiceCopyEnd"});
  m.queue_item(queue, "Ntfs!NtfsFspDispatch", context.value());
  for (u64 i = 0; i < 4; i++) {
    const VirtAddr worker = m.add_thread(m.system_process(), 0x200 + i * 4);
    m.bind_worker(queue, worker);
    m.wait_for_resource(worker, r, true, static_cast<u32>(6300 - i * 10),
                        {"Ntfs!NtfsFspDispatch", "nt!ExpWorkerThread", "nt!PspSystemThreadStartup"});
  }
  s.thread["holder"] = holder;
  s.culprit = holder;
  return s;
}

Scene worker_exhaustion(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options),
          .thread = {},
          .object = {},
          .verdict = "worker-exhaustion"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr queue = m.add_work_queue();
  for (u64 i = 0; i < 3; i++) {
    const VirtAddr worker = m.add_thread(m.system_process(), 0x200 + i * 4);
    m.bind_worker(queue, worker);
    m.block(worker, 0, {m.add_event()}, static_cast<u32>(9000 - i * 100),
            {"nt!KeWaitForSingleObject", "vendor!WaitForDevice", "nt!ExpWorkerThread",
             "nt!PspSystemThreadStartup"});
    if (i == 0) s.culprit = worker;
  }
  for (u64 i = 0; i < 20; i++) m.queue_item(queue, "nt!CcWorkerThread", 0);
  s.object["queue"] = queue;
  return s;
}

Scene suspended_owner(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options),
          .thread = {},
          .object = {},
          .verdict = "suspended-owner"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("sqlservr.exe", 2700), other = m.add_process("winlogon.exe", 640, 1);
  const VirtAddr owner = m.add_thread(p, 2704), lock = m.add_push_lock();
  m.own_push_lock(lock, owner);
  m.suspend(owner, 30'000, {"nt!KiSystemServiceCopyEnd"});
  for (u64 i = 0; i < 3; i++)
    m.wait_for_push_lock(m.add_thread(other, 644 + i * 4), lock, static_cast<u32>(20'000 - i * 100), kOpen);
  s.thread["owner"] = owner;
  s.object["push_lock"] = lock;
  s.culprit = owner;
  return s;
}

Scene memory_exhaustion(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options),
          .thread = {},
          .object = {},
          .verdict = "memory-exhaustion"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr hog = m.add_process("java.exe", 2800);
  m.set(hog, "_EPROCESS", "CommitCharge", 3'000'000);
  const VirtAddr p = m.add_process("svchost.exe", 1100);
  for (u64 i = 0; i < 4; i++) {
    const VirtAddr t = m.add_thread(i == 0 ? hog : p, 2804 + i * 4);
    m.block(t, 8, {m.add_event(false)}, static_cast<u32>(3000 + i),
            {"nt!KeWaitForSingleObject", "nt!MiWaitForFreePage", "nt!MmAccessFault", "nt!KiPageFault"});
  }
  return s;
}

Scene remote_wait(MachineOptions options) {
  Scene s{
      .machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "remote-wait"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("explorer.exe", 1784, 1), r = m.add_resource();
  const VirtAddr file = m.add_file("\\server\\profiles\\user\\desktop.ini");
  const VirtAddr holder = m.add_thread(p, 1788), mup = m.redirector_device();
  m.own_exclusive(r, holder);
  s.object["irp"] = m.wait_for_io(
      holder,
      {{.device = m.filter_device(), .major = 0, .file = file},
       {.device = mup,
        .major = 0,
        .file = file,
        .completion = m.address_of("fltmgr!FltpPassThroughCompletion")}},
      6'400, {"mup!MupStateMachine", "nt!IofCallDriver", "nt!NtCreateFile", "nt!KiSystemServiceCopyEnd"});
  for (u64 i = 0; i < 2; i++)
    m.wait_for_resource(m.add_thread(p, 1792 + i * 4), r, true, static_cast<u32>(6'000 - i * 500), kOpen);
  s.thread["holder"] = holder;
  s.culprit = holder;
  return s;
}

Scene starved_vm(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "starved-vm"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("svchost.exe", 1200);
  for (u64 i = 0; i < 4; i++) {
    const VirtAddr t = m.add_thread(p, 1204 + i * 4);
    m.wait_for_timer(t, 3000, 1500);
  }
  m.make_ready(m.add_thread(p, 1300), 0, 2000);
  return s;
}

Scene page_in(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "io-stall"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("winlogon.exe", 660, 1);
  const VirtAddr reader = m.add_thread(p, 664), other = m.add_thread(p, 668);
  const VirtAddr file = m.add_file("\\Windows\\System32\\shell32.dll"), event = m.add_event(false);
  s.object["irp"] =
      m.add_irp(reader,
                {{.device = m.ntfs_device(), .major = 3, .file = file},
                 {.device = m.disk_device(), .major = 3, .completion = m.address_of("Ntfs!NtfsReadComplete")},
                 {.device = m.port_device(), .major = 0xf, .completion = m.address_of("disk!DiskComplete")}},
                9, {}, false);
  m.keep_on_stack(reader, s.object["irp"].value());
  const Labels fault{"nt!KeWaitForSingleObject", "nt!MiWaitForInPageComplete", "nt!MmAccessFault",
                     "nt!KiPageFault"};
  m.block(reader, 9, {event}, 4000, fault);
  m.block(other, 9, {event}, 3900, fault);
  s.thread = {{"reader", reader}, {"other", other}};
  s.culprit = reader;
  return s;
}

Scene healthy(MachineOptions options) {
  Scene s{.machine = std::make_unique<Machine>(options), .thread = {}, .object = {}, .verdict = "no-hang"};
  Machine& m = *s.machine;
  idle_threads(s);
  const VirtAddr p = m.add_process("svchost.exe", 1000);
  const VirtAddr r = m.add_resource();
  const VirtAddr user = m.add_thread(p, 1004);
  m.own_exclusive(r, user);
  m.run(user, 1, kOpen);
  m.wait_for_resource(m.add_thread(p, 1008), r, false, 1, kOpen);
  const VirtAddr pipe = m.add_file("\\pipe\\lsass");
  m.wait_for_io(m.add_thread(p, 1012), {{.device = m.pipe_device(), .major = 3, .file = pipe}}, 3'000'000,
                {"nt!IopSynchronousServiceTail", "nt!NtReadFile", "nt!KiSystemServiceCopyEnd"});
  const VirtAddr directory = m.add_file("\\Users");
  m.wait_for_io(m.add_thread(p, 1016),
                {{.device = m.filter_device(), .major = 0xc, .minor = 2, .file = directory},
                 {.device = m.ntfs_device(), .major = 0xc, .minor = 2, .file = directory}},
                3'000'000, {"nt!NtNotifyChangeDirectoryFile", "nt!KiSystemServiceCopyEnd"});
  const VirtAddr mutant_owner = m.add_thread(p, 1020);
  m.block(mutant_owner, 6, {m.add_event()}, 10, kFromUser);
  const VirtAddr mutant = m.add_mutant(mutant_owner), mutant_waiter = m.add_thread(p, 1024);
  m.wait_for_mutant(mutant_waiter, mutant, 5, kFromUser);
  // A quick read from the disk.
  const VirtAddr reader = m.add_thread(p, 1028), read_complete = m.address_of("Ntfs!NtfsReadComplete");
  m.wait_for_io(reader,
                {{.device = m.ntfs_device(), .major = 3, .file = directory},
                 {.device = m.disk_device(), .major = 3, .completion = read_complete}},
                1, {"Ntfs!NtfsNonCachedIo", "nt!NtReadFile", "nt!KiSystemServiceCopyEnd"});
  // A client that waits for its server to tell it something, for hours; so does the server.
  const VirtAddr lsm = m.add_process("lsm.exe", 1040);
  const VirtAddr server = m.add_thread(lsm, 1044);
  m.block(server, 6, {m.add_event(false)}, 3'000'000, kFromUser);
  const VirtAddr port = m.add_alpc_port(lsm, "\\LsmApiPort"), client = m.add_thread(p, 1032);
  m.wait_for_reply(client, port, server, 3'000'000);
  // Locks that are held for a moment.
  const VirtAddr lock = m.add_push_lock(), holder = m.add_thread(p, 1036);
  m.own_push_lock(lock, holder);
  m.block(holder, 0, {m.add_event()}, 2, kOpen);
  m.wait_for_push_lock(m.add_thread(p, 1048), lock, 1, kOpen);
  const VirtAddr section_owner = m.add_thread(p, 1052), section = m.add_critical_section(section_owner);
  m.block(section_owner, 6, {m.add_event()}, 3, kFromUser);
  m.wait_for_critical_section(m.add_thread(p, 1056), section, 2);
  // A queue with work and workers, a thread that is suspended and disturbs nobody, one that waits for another
  // to end, a timer that is just due.
  const VirtAddr queue = m.add_work_queue(), worker = m.add_thread(m.system_process(), 0x300),
                 busy = m.add_thread(m.system_process(), 0x304);
  m.bind_worker(queue, worker);
  m.bind_worker(queue, busy);
  m.block(worker, 15, {queue}, 50, {"nt!KeRemoveQueueEx", "nt!ExpWorkerThread", "nt!PspSystemThreadStartup"});
  m.block(busy, 0, {m.add_event()}, 2, {"vendor!Work", "nt!ExpWorkerThread", "nt!PspSystemThreadStartup"});
  m.suspend(m.add_thread(p, 1060), 400'000, {"nt!KiSystemServiceCopyEnd"});
  m.block(m.add_thread(p, 1064), 6, {user}, 2'000'000, kFromUser);
  m.wait_for_timer(m.add_thread(p, 1068), 100, 0);
  // The page writers have nothing to write.
  for (u64 i = 0; i < 2; i++) {
    const VirtAddr writer = m.add_thread(m.system_process(), 0x310 + i * 4);
    m.block(writer, 8, {m.add_event()}, 6400, {"nt!MiModifiedPageWriter", "nt!PspSystemThreadStartup"});
  }
  return s;
}

}  // namespace unhang::synth
