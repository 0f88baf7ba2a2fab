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
  m.wait_for_mutant(m.add_thread(p, 1024), m.add_mutant(mutant_owner), 5, kFromUser);
  // A quick read from the disk.
  m.wait_for_io(
      m.add_thread(p, 1028),
      {{.device = m.ntfs_device(), .major = 3, .file = directory},
       {.device = m.disk_device(), .major = 3, .completion = m.address_of("Ntfs!NtfsReadComplete")}},
      1, {"Ntfs!NtfsNonCachedIo", "nt!NtReadFile", "nt!KiSystemServiceCopyEnd"});
  return s;
}

}  // namespace unhang::synth
