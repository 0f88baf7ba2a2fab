// Threads that are ready and get no processor; times of a dump that is not of one instant.
#include "diagnose/diagnose.h"
#include "synth/session.h"

namespace unhang {
namespace {

class ProcessorTest : public testing::Test {
 protected:
  diagnose::Diagnosis diagnosis() {
    session_ = synth::open_session(machine_.dump());
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  // Runs on as many processors of two.
  void hog(u32 processors) {
    const VirtAddr p = machine_.add_process("app.exe", 3000);
    for (u32 i = 0; i < processors; i++) {
      const VirtAddr t = machine_.add_thread(p, 3004 + i * 4);
      machine_.run(t, i, {"nt!KiSystemServiceCopyEnd"}, 4000);
      machine_.set(t, "_KTHREAD", "Priority", 31);
      hogs_.push_back(t);
    }
  }
  synth::Machine machine_{synth::MachineOptions{}};
  std::vector<VirtAddr> hogs_;
  std::unique_ptr<app::Session> session_;
};

TEST_F(ProcessorTest, HighPriorityKeepsAllOthersFromRunning) {
  hog(2);
  const VirtAddr p = machine_.add_process("winlogon.exe", 660, 1);
  for (u64 i = 0; i < 3; i++) machine_.make_ready(machine_.add_thread(p, 664 + i * 4), 0, 3800);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "cpu-spin") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, hogs_[0]);
  EXPECT_EQ(d.findings[0].waiting.size(), 3u);
}

// The other processor is idle. It takes threads, but not those that are bound to the first one.
TEST_F(ProcessorTest, BoundToTheProcessorThatIsTaken) {
  for (const u32 bound_to : {1u, 0u}) {
    machine_ = synth::Machine(synth::MachineOptions{});
    hogs_.clear();
    hog(1);
    const VirtAddr p = machine_.add_process("winlogon.exe", 660, 1);
    for (u64 i = 0; i < 3; i++) machine_.make_ready(machine_.add_thread(p, 664 + i * 4), bound_to, 3800);
    const diagnose::Diagnosis d = diagnosis();
    EXPECT_STREQ(d.verdict.cls, bound_to == 0 ? "cpu-spin" : "no-hang") << d.verdict.summary;
    if (bound_to != 0) continue;
    ASSERT_FALSE(d.findings.empty());
    EXPECT_EQ(d.findings[0].culprit.thread, hogs_[0]);
    EXPECT_EQ(d.findings[0].waiting.size(), 3u);
  }
}

// A deferred procedure whose driver no frame names: the thread that it interrupted is not to blame.
TEST_F(ProcessorTest, TakenByADeferredProcedure) {
  hog(1);
  machine_.set(machine_.kprcb(0), "_KPRCB", "DpcRoutineActive", 1);
  machine_.make_ready(machine_.add_thread(machine_.system_process(), 664), 0, 3800);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "cpu-spin") << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("CPU 0 is in a deferred procedure (DPC)"), std::string::npos)
      << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_TRUE(d.findings[0].culprit.thread.is_null());
  EXPECT_EQ(d.findings[0].culprit.cpu, 0u);
}

// Whom a deferred procedure keeps from running holds what others wait for: it is not to blame, and the
// processor is not idle.
TEST_F(ProcessorTest, TheOwnerIsReadyBehindADeferredProcedure) {
  const VirtAddr idle = machine_.memory().get<VirtAddr>(machine_.kprcb(0) + 0x18);
  machine_.run(idle, 0, {"netkvm!RxDpc", "nt!KiIdleLoop"});
  machine_.set(machine_.kprcb(0), "_KPRCB", "DpcRoutineActive", 1);
  const VirtAddr owner = machine_.add_thread(machine_.add_process("pinned.exe", 3000), 3004),
                 resource = machine_.add_resource(), p = machine_.add_process("winlogon.exe", 660, 1);
  machine_.own_exclusive(resource, owner);
  machine_.make_ready(owner, 0, 2000);
  for (u64 i = 0; i < 3; i++)
    machine_.wait_for_resource(machine_.add_thread(p, 664 + i * 4), resource, true, 200);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "cpu-spin") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].waiting.size(), 4u);
  for (const auto& f : d.findings)
    for (const auto& e : f.evidence) EXPECT_EQ(e.text.find("CPU 0 is idle"), std::string::npos) << e.text;
}

// The scheduler's boost comes after four seconds; a moment is nothing.
TEST_F(ProcessorTest, ReadyForAMoment) {
  hog(2);
  machine_.make_ready(machine_.add_thread(machine_.system_process(), 664), 0, 200);
  EXPECT_STREQ(diagnosis().verdict.cls, "no-hang");
}

// A running guest's dump: the thread began to wait after the clock was read.
TEST_F(ProcessorTest, WaitThatBeginsAfterTheClock) {
  const VirtAddr p = machine_.add_process("svchost.exe", 900), holder = machine_.add_thread(p, 904),
                 r = machine_.add_resource();
  machine_.own_exclusive(r, holder);
  machine_.run(holder, 0, {"nt!KiSystemServiceCopyEnd"});
  std::vector<VirtAddr> late;
  for (u64 i = 0; i < 4; i++) {
    late.push_back(machine_.add_thread(p, 908 + i * 4));
    machine_.wait_for_resource(late.back(), r, true, 0);
    machine_.set(late.back(), "_KTHREAD", "WaitTime", machine_.tick_count() + 3);
  }
  EXPECT_STREQ(diagnosis().verdict.cls, "no-hang");
  EXPECT_EQ(session_->world().thread(late[0])->thread.waited_ms, 0u);
  // Before the machine started: not known.
  machine_.set(late[0], "_KTHREAD", "WaitTime", machine_.tick_count() + 100'000'000);
  diagnosis();
  EXPECT_EQ(session_->world().thread(late[0])->thread.waited_ms, std::nullopt);
}

}  // namespace
}  // namespace unhang
