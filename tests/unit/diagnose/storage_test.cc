// Disks that do not answer: one stack is one finding; what its writes would free is waited for too; a thread
// that cannot end.
#include "diagnose/diagnose.h"
#include "synth/session.h"

namespace unhang {
namespace {

constexpr u8 kRead = 3, kWrite = 4, kDelayExecution = 4, kUserRequest = 6, kWrFreePage = 8;

class StorageTest : public testing::Test {
 protected:
  diagnose::Diagnosis diagnosis() {
    session_ = synth::open_session(machine_.dump());
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  // A request that has come down to a device and lies there.
  void request(u64 tid, VirtAddr device, u8 major, u32 ticks) {
    const VirtAddr file = machine_.add_file("\\data" + std::to_string(tid)),
                   t = machine_.add_thread(process_, tid);
    machine_.wait_for_io(
        t,
        {{.device = machine_.ntfs_device(), .major = major, .file = file},
         {.device = device, .major = major, .completion = machine_.address_of("Ntfs!NtfsReadComplete")}},
        ticks, {"nt!IofCallDriver", "nt!KiSystemServiceCopyEnd"});
  }
  static size_t count(const diagnose::Diagnosis& d, std::string_view verdict) {
    return static_cast<size_t>(std::count_if(d.findings.begin(), d.findings.end(),
                                             [&](const auto& f) { return f.verdict == verdict; }));
  }
  synth::Machine machine_{synth::MachineOptions{}};
  VirtAddr process_ = machine_.add_process("svchost.exe", 900);
  std::unique_ptr<app::Session> session_;
};

TEST_F(StorageTest, OneStackOfDevicesIsOneFinding) {
  const VirtAddr lun = machine_.add_device(machine_.add_driver("\\Driver\\vioscsi"), 7);
  machine_.attach(machine_.disk_device(), lun);
  request(904, machine_.disk_device(), kRead, 2000);
  request(908, lun, kRead, 1800);
  request(912, machine_.disk_device(), kRead, 1600);
  const diagnose::Diagnosis d = diagnosis();
  ASSERT_EQ(d.findings.size(), 1u);
  EXPECT_NE(d.verdict.summary.find("3 requests are not answered"), std::string::npos) << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("\\Driver\\disk"), std::string::npos) << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find(" above \\Driver\\vioscsi"), std::string::npos) << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("(host storage)"), std::string::npos) << d.verdict.summary;
}

// A database's thread sends many requests and goes on.
TEST_F(StorageTest, RequestsThatNobodyWaitsForAreCounted) {
  request(904, machine_.port_device(), kRead, 2000);
  const VirtAddr t = machine_.add_thread(machine_.add_process("sqlservr.exe", 2100), 2104);
  for (u64 i = 0; i < 30; i++) machine_.add_irp(t, {{.device = machine_.port_device(), .major = kRead}});
  machine_.add_irp(t, {{.device = machine_.pipe_device(), .major = kRead}});
  machine_.block(t, kUserRequest, {machine_.add_event()}, 10, {"nt!KiSystemServiceCopyEnd"});
  const diagnose::Diagnosis d = diagnosis();
  ASSERT_EQ(d.findings.size(), 1u);
  EXPECT_TRUE(std::any_of(d.findings[0].evidence.begin(), d.findings[0].evidence.end(), [](const auto& e) {
    return e.text == "and 30 requests are pending there that no thread waits for (asynchronous)";
  }));
}

// Redirectors and many filters keep the event that they wait for in a structure of their own.
TEST_F(StorageTest, EventInPool) {
  for (const bool in_context : {true, false}) {
    machine_ = synth::Machine(synth::MachineOptions{});
    const VirtAddr t = machine_.add_thread(machine_.add_process("backup.exe", 900), 904),
                   context = machine_.alloc(0x1000), event = context + 0x20,
                   file = machine_.add_file("\\data");
    machine_.memory().put<u8>(event, 0);  // a notification event
    machine_.init_list(event + machine_.offset("_DISPATCHER_HEADER", "WaitListHead"));
    machine_.add_irp(t, {{.device = machine_.ntfs_device(), .major = kWrite, .file = file},
                         {.device = machine_.disk_device(),
                          .major = kWrite,
                          .completion = machine_.address_of("Ntfs!NtfsReadComplete"),
                          .context = in_context ? context : VirtAddr()}});
    machine_.block(t, 0, {event}, 8000, {"nt!KeWaitForSingleObject", "nt!IofCallDriver", "nt!NtWriteFile"});
    const diagnose::Diagnosis d = diagnosis();
    EXPECT_STREQ(d.verdict.cls, "io-stall") << d.verdict.summary;
    EXPECT_EQ(d.verdict.confidence, Confidence::heuristic);
  }
}

// A file object opened for synchronous I/O takes one request at a time.
TEST_F(StorageTest, OthersQueueForTheFileObject) {
  const VirtAddr file = machine_.add_file("\\ProgramData\\app.db");
  machine_.set(file, "_FILE_OBJECT", "Busy", 1);
  const VirtAddr writer = machine_.add_thread(process_, 904);
  machine_.wait_for_io(writer,
                       {{.device = machine_.ntfs_device(), .major = kWrite, .file = file},
                        {.device = machine_.disk_device(),
                         .major = kWrite,
                         .completion = machine_.address_of("Ntfs!NtfsReadComplete")}},
                       6000, {"nt!IofCallDriver", "nt!KiSystemServiceCopyEnd"});
  const VirtAddr lock = file + machine_.offset("_FILE_OBJECT", "Lock");
  machine_.init_list(lock + machine_.offset("_DISPATCHER_HEADER", "WaitListHead"));
  for (u64 i = 0; i < 3; i++) {
    const VirtAddr t = machine_.add_thread(process_, 1000 + i * 4);
    machine_.add_handle(process_, file);
    machine_.block(t, 0, {lock}, 5000, {"nt!KeWaitForSingleObject", "nt!NtReadFile"});
  }
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "io-stall") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].waiting.size(), 4u);
}

// The desktop waits for a share, two services for the disk: the disk is everybody's.
TEST_F(StorageTest, ADiskComesBeforeAShare) {
  const VirtAddr lun = machine_.add_device(machine_.add_driver("\\Driver\\vioscsi"), 7),
                 share = machine_.redirector_device();
  request(904, lun, kRead, 2600);
  request(908, lun, kRead, 2600);
  process_ = machine_.add_process("explorer.exe", 3300);
  request(3304, share, kRead, 1920);
  const diagnose::Diagnosis d = diagnosis();
  ASSERT_EQ(d.findings.size(), 2u);
  EXPECT_STREQ(d.findings[0].verdict, "io-stall");
  EXPECT_STREQ(d.findings[1].verdict, "remote-wait");
}

TEST_F(StorageTest, OtherDisksAreOtherFindings) {
  request(904, machine_.disk_device(), kRead, 2000);
  request(908, machine_.port_device(), kRead, 1800);
  EXPECT_EQ(diagnosis().findings.size(), 2u);
}

// Memory is short because nothing is written: the disk comes first. Reads alone say nothing of that.
TEST_F(StorageTest, ThatTakesNoWritesLeavesNoMemory) {
  for (const u8 major : {kRead, kWrite}) {
    machine_ = synth::Machine(synth::MachineOptions{});
    process_ = machine_.add_process("svchost.exe", 900);
    request(904, machine_.port_device(), major, 2000);
    const VirtAddr p = machine_.add_process("java.exe", 2800);
    for (u64 i = 0; i < 5; i++)
      machine_.block(machine_.add_thread(p, 2804 + i * 4), kWrFreePage, {machine_.add_event()}, 1500,
                     {"nt!MmAccessFault", "nt!KiPageFault"});
    const diagnose::Diagnosis d = diagnosis();
    EXPECT_EQ(count(d, "memory-exhaustion"), 1u);
    EXPECT_EQ(count(d, "io-stall"), 1u);
    EXPECT_STREQ(d.verdict.cls, major == kWrite ? "io-stall" : "memory-exhaustion") << d.verdict.summary;
    EXPECT_EQ(d.findings[0].waiting.size(), major == kWrite ? 6u : 5u);
  }
}

// A third party's filter above a virtio disk has not handed the request down.
TEST_F(StorageTest, AFilterAboveTheDiskIsNotTheHost) {
  const VirtAddr lun = machine_.add_device(machine_.add_driver("\\Driver\\vioscsi"), 7),
                 filter = machine_.add_device(machine_.add_driver("\\Driver\\acmedisk"), 7);
  machine_.attach(filter, lun);
  request(904, filter, kRead, 2000);
  const diagnose::Diagnosis d = diagnosis();
  ASSERT_EQ(d.findings.size(), 1u);
  EXPECT_EQ(d.verdict.summary.find("host storage"), std::string::npos) << d.verdict.summary;
  EXPECT_EQ(d.findings[0].advice[0].find("The request lies in \\Driver\\acmedisk"), 0u);
}

// A driver of unknown kind may answer when it likes, but not while others queue behind who waits for it.
TEST_F(StorageTest, ADriverOfUnknownKindCountsWithVictims) {
  for (const bool victims : {false, true}) {
    machine_ = synth::Machine(synth::MachineOptions{});
    process_ = machine_.add_process("lsass.exe", 620);
    const VirtAddr device = machine_.add_device(machine_.add_driver("\\Driver\\acmedev"), 0x22);
    const VirtAddr holder = machine_.add_thread(process_, 624), r = machine_.add_resource();
    machine_.own_exclusive(r, holder);
    machine_.wait_for_io(holder, {{.device = device, .major = 0xe}, {.device = device, .major = 0xe}}, 4500,
                         {"nt!IofCallDriver", "nt!KiSystemServiceCopyEnd"});
    for (u64 i = 0; victims && i < 3; i++)
      machine_.wait_for_resource(machine_.add_thread(process_, 700 + i * 4), r, true, 4000);
    const diagnose::Diagnosis d = diagnosis();
    EXPECT_STREQ(d.verdict.cls, victims ? "io-stall" : "no-hang") << d.verdict.summary;
    if (!victims) continue;
    ASSERT_FALSE(d.findings.empty());
    EXPECT_EQ(d.findings[0].culprit.thread, holder);
    EXPECT_EQ(d.findings[0].culprit.driver, "\\Driver\\acmedev");
  }
}

// An antivirus service leaves requests with the filter manager until there is something to scan.
TEST_F(StorageTest, InvertedCallsAreNoStall) {
  const VirtAddr port = machine_.add_device(machine_.add_driver("\\FileSystem\\FltMgr2"), 8),
                 control = machine_.add_device(machine_.add_driver("\\Driver\\partmgr"), 7);
  for (u64 i = 0; i < 4; i++) request(904 + i * 4, port, 0xe, 1'000'000);
  const VirtAddr t = machine_.add_thread(process_, 940);
  const VirtAddr irp =
      machine_.wait_for_io(t, {{.device = control, .major = 0xe}, {.device = control, .major = 0xe}},
                           1'000'000, {"nt!IofCallDriver", "nt!KiSystemServiceCopyEnd"});
  EXPECT_STREQ(diagnosis().verdict.cls, "io-stall") << "no cancel routine: it is not meant to lie there";
  machine_.set(irp, "_IRP", "CancelRoutine", machine_.address_of("partmgr!CancelNotify").value());
  EXPECT_STREQ(diagnosis().verdict.cls, "no-hang");
}

// The WebClient service waits for its redirector's work so; a control request for a file on a share is
// awaited.
TEST_F(StorageTest, ControlOfTheRedirectorItselfIsNoStall) {
  for (const bool file : {false, true}) {
    machine_ = synth::Machine(synth::MachineOptions{});
    const VirtAddr t = machine_.add_thread(machine_.add_process("svchost.exe", 900), 904),
                   device = machine_.redirector_device(),
                   on = file ? machine_.add_file("\\server\\share\\report.docx") : VirtAddr();
    machine_.wait_for_io(
        t, {{.device = device, .major = 0xd, .file = on}, {.device = device, .major = 0xd, .file = on}}, 4000,
        {"nt!IofCallDriver", "nt!KiSystemServiceCopyEnd"});
    EXPECT_STREQ(diagnosis().verdict.cls, file ? "remote-wait" : "no-hang");
  }
}

class EndingTest : public StorageTest {
 protected:
  // A thread of a process that was ended: its request lies in a driver, cancelled.
  void end_with_a_request(bool waited_for, u32 ticks = 4000) {
    const VirtAddr p = machine_.add_process("agent.exe", 3000);
    ending_ = machine_.add_thread(p, 3004);
    const VirtAddr device = machine_.add_device(machine_.add_driver("\\Driver\\usbtoken"), 0x22);
    const VirtAddr irp = machine_.add_irp(ending_, {{.device = device, .major = 0xe}});
    machine_.set(irp, "_IRP", "Cancel", 1);
    machine_.set(ending_, "_ETHREAD", "CrossThreadFlags", 1);
    machine_.block(ending_, kDelayExecution, {machine_.add_event()}, 2,
                   {"nt!KeDelayExecutionThread", "nt!IoCancelThreadIo", "nt!PspExitThread"});
    const VirtAddr waiter = machine_.add_thread(process_, 904);
    machine_.block(waiter, kUserRequest, {waited_for ? p : machine_.add_event()}, ticks,
                   {"nt!NtWaitForSingleObject", "nt!KiSystemServiceCopyEnd"});
  }
  VirtAddr ending_;
};

TEST_F(EndingTest, RequestThatIsNotGivenBack) {
  end_with_a_request(true);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "io-stall") << d.verdict.summary;
  EXPECT_EQ(d.verdict.confidence, Confidence::heuristic);
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, ending_);
  EXPECT_EQ(d.findings[0].culprit.driver, "\\Driver\\usbtoken");
  EXPECT_EQ(d.verdict.summary.find("agent.exe 3000.3004 is ending and cannot: \\Driver\\usbtoken does not "
                                   "complete its IRP_MJ_DEVICE_CONTROL, which has been cancelled; 1 thread"),
            0u)
      << d.verdict.summary;
}

// services.exe waits for its processes for as long as they live.
TEST_F(EndingTest, ComesBehindWhatHurts) {
  process_ = machine_.add_process("services.exe", 500);
  end_with_a_request(true);
  process_ = machine_.add_process("svchost.exe", 1100);
  request(1104, machine_.port_device(), kRead, 400);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_EQ(count(d, "io-stall"), 2u);
  EXPECT_NE(d.verdict.summary.find("viostor"), std::string::npos) << d.verdict.summary;
}

// A parent has waited for its child for two hours; the child ends at this moment.
TEST_F(EndingTest, ParentsWaitForAsLongAsTheirChildrenLive) {
  end_with_a_request(true, 460'800);
  EXPECT_STREQ(diagnosis().verdict.cls, "no-hang");
}

// Every thread that ends is seen so for an instant.
TEST_F(EndingTest, NobodyWaitsForIt) {
  end_with_a_request(false);
  EXPECT_STREQ(diagnosis().verdict.cls, "no-hang");
}

}  // namespace
}  // namespace unhang
