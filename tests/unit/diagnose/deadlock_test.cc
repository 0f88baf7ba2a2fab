// Circles that one of their threads may leave by itself.
#include "diagnose/diagnose.h"
#include "synth/session.h"

namespace unhang {
namespace {

using synth::Machine;

class DeadlockTest : public testing::Test {
 protected:
  // a holds the resource and waits for the mutant (and whatever else); b holds that and waits for the
  // resource.
  diagnose::Diagnosis circle(const std::vector<VirtAddr>& more) {
    std::vector<VirtAddr> objects{m_.add_mutant(b_)};
    objects.insert(objects.end(), more.begin(), more.end());
    const VirtAddr resource = m_.add_resource();
    m_.own_exclusive(resource, a_);
    m_.block(a_, 6, objects, 6400, {"nt!KeWaitForSingleObject", "nt!KiSystemServiceCopyEnd"});
    m_.wait_for_resource(b_, resource, true, 6300);
    session_ = synth::open_session(m_.dump());
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  static bool says(const diagnose::Diagnosis& d, const std::string& words) {
    return !d.findings.empty() &&
           std::any_of(d.findings[0].evidence.begin(), d.findings[0].evidence.end(),
                       [&](const diagnose::Evidence& e) { return e.text.find(words) != e.text.npos; });
  }
  Machine m_{synth::MachineOptions{}};
  VirtAddr p_ = m_.add_process("service.exe", 2200);
  VirtAddr a_ = m_.add_thread(p_, 2204), b_ = m_.add_thread(p_, 2208);
  std::unique_ptr<app::Session> session_;
};

TEST_F(DeadlockTest, NothingOpensIt) {
  const diagnose::Diagnosis d = circle({});
  EXPECT_STREQ(d.verdict.cls, "deadlock") << d.verdict.summary;
  EXPECT_EQ(d.verdict.confidence, Confidence::derived);
}

TEST_F(DeadlockTest, AnotherObjectEndsTheWait) {
  const diagnose::Diagnosis d = circle({m_.add_event()});
  EXPECT_STREQ(d.verdict.cls, "deadlock") << d.verdict.summary;
  EXPECT_EQ(d.verdict.confidence, Confidence::heuristic);
  EXPECT_TRUE(says(d, "any of several objects"));
}

TEST_F(DeadlockTest, ATimeOutEndsTheWait) {
  const VirtAddr timer = a_ + m_.offset("_KTHREAD", "Timer");
  m_.set(timer, "_DISPATCHER_HEADER", "Type", 8);
  m_.memory().put<u8>(timer + 3, 0x40);  // in the table
  m_.set(timer, "_KTIMER", "DueTime", (u64{m_.tick_count()} + 640) * 156'250);
  const diagnose::Diagnosis d = circle({});
  EXPECT_EQ(d.verdict.confidence, Confidence::heuristic);
  EXPECT_TRUE(says(d, "has a time-out, due in 10.0 s")) << d.verdict.summary;
}

// setup.exe has a mutex and waits for its child, which waits for the mutex.
TEST_F(DeadlockTest, AProcessThatWaitsForTheOneThatWaitsForItsEnd) {
  for (const bool more : {false, true}) {
    m_ = Machine{synth::MachineOptions{}};
    const VirtAddr child = m_.add_process("child.exe", 3400);
    a_ = m_.add_thread(m_.add_process("setup.exe", 2200), 2204);
    b_ = m_.add_thread(child, 3404);
    m_.wait_for_mutant(b_, m_.add_mutant(a_), 6300);
    // Who waits for one of several things is not bound to this one.
    std::vector<VirtAddr> objects{child};
    if (more) objects.push_back(m_.add_event());
    m_.block(a_, 6, objects, 6400, {"nt!KeWaitForSingleObject", "nt!KiSystemServiceCopyEnd"});
    session_ = synth::open_session(m_.dump());
    ASSERT_TRUE(session_);
    const diagnose::Diagnosis d = diagnose::diagnose(session_->world(), {});
    EXPECT_STREQ(d.verdict.cls, more ? "no-hang" : "deadlock") << d.verdict.summary;
  }
}

// Two services have been in a circle for hours; for a minute now nobody can log on.
TEST_F(DeadlockTest, AnOldOneOfOthersComesBehindWhatHoldsUpLogon) {
  const VirtAddr r = m_.add_resource(), s = m_.add_resource();
  m_.own_exclusive(r, a_);
  m_.own_exclusive(s, b_);
  constexpr u32 kHours = 1'500'000;
  m_.wait_for_resource(a_, s, true, kHours);
  m_.wait_for_resource(b_, r, true, kHours);
  const VirtAddr profile = m_.add_resource(), holder = m_.add_thread(m_.add_process("svchost.exe", 900), 904);
  m_.own_exclusive(profile, holder);
  m_.wait_for_io(
      holder,
      {{.device = m_.ntfs_device(), .major = 3},
       {.device = m_.disk_device(), .major = 3, .completion = m_.address_of("Ntfs!NtfsReadComplete")}},
      3900, {"nt!IofCallDriver", "nt!KiSystemServiceCopyEnd"});
  m_.wait_for_resource(m_.add_thread(m_.add_process("winlogon.exe", 560), 564), profile, true, 3800);
  session_ = synth::open_session(m_.dump());
  ASSERT_TRUE(session_);
  const diagnose::Diagnosis d = diagnose::diagnose(session_->world(), {});
  EXPECT_STREQ(d.verdict.cls, "io-stall") << d.verdict.summary;
  ASSERT_EQ(d.findings.size(), 2u);
  EXPECT_STREQ(d.findings[1].verdict, "deadlock");
}

// Whoever has a resource exclusively gets it again at once: he cannot wait for it.
TEST_F(DeadlockTest, AnExclusiveOwnerOnTheListOfWaitersIsATornDump) {
  const VirtAddr resource = m_.add_resource();
  m_.own_exclusive(resource, a_);
  m_.wait_for_resource(a_, resource, true, 3000);
  m_.wait_for_resource(b_, resource, true, 3000);
  session_ = synth::open_session(m_.dump());
  ASSERT_TRUE(session_);
  const diagnose::Diagnosis d = diagnose::diagnose(session_->world(), {});
  EXPECT_STRNE(d.verdict.cls, "deadlock") << d.verdict.summary;
  EXPECT_TRUE(std::any_of(session_->world().locks.begin(), session_->world().locks.end(),
                          [](const waits::Lock& l) { return !l.gaps.empty(); }));
}

TEST_F(DeadlockTest, OfOneThreadOverAPushLock) {
  const VirtAddr lock = m_.add_push_lock();
  m_.own_push_lock(lock, a_);
  m_.wait_for_push_lock(a_, lock, 6300);
  session_ = synth::open_session(m_.dump());
  ASSERT_TRUE(session_);
  const diagnose::Diagnosis d = diagnose::diagnose(session_->world(), {});
  EXPECT_STREQ(d.verdict.cls, "deadlock") << d.verdict.summary;
}

TEST_F(DeadlockTest, OfOneThread) {
  const VirtAddr resource = m_.add_resource();
  m_.own_shared(resource, {a_});
  m_.wait_for_resource(a_, resource, true, 6300);
  session_ = synth::open_session(m_.dump());
  ASSERT_TRUE(session_);
  const diagnose::Diagnosis d = diagnose::diagnose(session_->world(), {});
  EXPECT_EQ(
      d.verdict.summary.find("deadlock of one thread: service.exe 2200.2204 waits for what it holds itself"),
      0u)
      << d.verdict.summary;
}

}  // namespace
}  // namespace unhang
