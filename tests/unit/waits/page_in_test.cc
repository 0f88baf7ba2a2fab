// Page faults whose request is on no stack: the structure that the event lies in tells who reads, and what.
#include "diagnose/diagnose.h"
#include "synth/session.h"

namespace unhang {
namespace {

constexpr u8 kWrPageIn = 9;

class PageInTest : public testing::TestWithParam<const char*> {
 protected:
  PageInTest() : machine_({.build = GetParam()}) {
    const VirtAddr p = machine_.add_process("winlogon.exe", 660, 1);
    reader_ = machine_.add_thread(p, 664);
    other_ = machine_.add_thread(machine_.add_process("explorer.exe", 1784, 1), 1788);
    support_ = machine_.alloc(machine_.size("_MMINPAGE_SUPPORT"));
    machine_.set(support_, "_MMINPAGE_SUPPORT", "Thread", reader_.value());
    machine_.set(support_, "_MMINPAGE_SUPPORT", "FilePointer",
                 machine_.add_file("\\Windows\\System32\\shell32.dll").value());
  }
  VirtAddr event(const char* member) {
    const VirtAddr e = support_ + machine_.offset("_MMINPAGE_SUPPORT", member);
    machine_.set(e, "_DISPATCHER_HEADER", "Type", 0);
    machine_.set(e, "_DISPATCHER_HEADER", "Size", 6);
    machine_.init_list(e + machine_.offset("_DISPATCHER_HEADER", "WaitListHead"));
    return e;
  }
  void fault(VirtAddr thread, VirtAddr event, u32 ticks) {
    machine_.block(
        thread, kWrPageIn, {event}, ticks,
        {"nt!KeWaitForSingleObject", "nt!MiWaitForInPageComplete", "nt!MmAccessFault", "nt!KiPageFault"});
  }
  diagnose::Diagnosis diagnosis() {
    session_ = synth::open_session(machine_.dump());
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  synth::Machine machine_;
  VirtAddr reader_, other_, support_;
  std::unique_ptr<app::Session> session_;
};

TEST_P(PageInTest, ReaderAndFile) {
  fault(reader_, event("Event"), 4000);
  fault(other_, event("CollidedEvent"), 3900);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "io-stall") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, reader_);
  EXPECT_EQ(d.findings[0].waiting.size(), 2u) << "the second one waits for the first";
  EXPECT_NE(d.verdict.summary.find("1 thread waits for a page that is being read of "), std::string::npos)
      << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("1 thread waits behind them"), std::string::npos) << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("\\Windows\\System32\\shell32.dll"), std::string::npos);
  EXPECT_NE(d.verdict.summary.find("\\Device\\HarddiskVolume"), std::string::npos) << d.verdict.summary;
}

// The request is on no list and on no stack; it names the event.
TEST_P(PageInTest, RequestAnywhereInMemory) {
  const VirtAddr e = event("Event");
  fault(reader_, e, 4000);
  fault(other_, event("CollidedEvent"), 3900);
  const VirtAddr irp =
      machine_.add_irp(reader_, {{.device = machine_.port_device(), .major = 3}}, 9, e, false);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "io-stall") << d.verdict.summary;
  EXPECT_EQ(d.verdict.confidence, Confidence::derived);
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, reader_);
  EXPECT_EQ(d.findings[0].culprit.driver, "\\Driver\\viostor");
  EXPECT_EQ(d.findings[0].waiting.size(), 2u);
  EXPECT_EQ(d.findings[0].chain.back().object, irp);
}

// A reader that is held up itself: the page is not what to look at.
TEST_P(PageInTest, ReaderThatWaitsForALock) {
  const VirtAddr holder = machine_.add_thread(machine_.system_process(), 116), r = machine_.add_resource();
  machine_.own_exclusive(r, holder);
  machine_.suspend(holder, 5000, {"nt!PspSystemThreadStartup"});
  machine_.wait_for_resource(reader_, r, true, 4000, {"Ntfs!NtfsCommonRead", "nt!MmAccessFault"});
  fault(other_, event("CollidedEvent"), 3900);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "suspended-owner") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, holder);
  EXPECT_EQ(d.findings[0].waiting.size(), 2u);
}

// An event of somebody else's: nothing names a thread there.
TEST_P(PageInTest, OtherEvent) {
  fault(other_, machine_.add_event(false), 3900);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "io-stall");
  EXPECT_NE(d.verdict.summary.find("which device does not answer is not known"), std::string::npos)
      << d.verdict.summary;
}

INSTANTIATE_TEST_SUITE_P(Builds, PageInTest,
                         testing::Values("6.3.9600.19913", "10.0.14393.4583", "10.0.19041.804"),
                         [](const auto& i) {
                           std::string s = i.param;
                           std::replace(s.begin(), s.end(), '.', '_');
                           return s;
                         });

}  // namespace
}  // namespace unhang
