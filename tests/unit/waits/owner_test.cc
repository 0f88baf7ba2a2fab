// Owners that can give back what they hold, and owners that are gone.
#include "diagnose/diagnose.h"
#include "synth/damage.h"
#include "synth/session.h"

namespace unhang {
namespace {

using synth::Machine;

struct LockKind {
  const char* name;
  // A lock of that kind, the owner's, for which a thread waits.
  void (*make)(Machine& m, VirtAddr owner, VirtAddr waiter);
};

const LockKind kKinds[] = {
    {"resource",
     [](Machine& m, VirtAddr owner, VirtAddr waiter) {
       const VirtAddr r = m.add_resource();
       m.own_exclusive(r, owner);
       m.wait_for_resource(waiter, r, true, 6400);
     }},
    {"mutant", [](Machine& m, VirtAddr owner,
                  VirtAddr waiter) { m.wait_for_mutant(waiter, m.add_mutant(owner), 6400); }},
    {"fast_mutex", [](Machine& m, VirtAddr owner,
                      VirtAddr waiter) { m.wait_for_fast_mutex(waiter, m.add_fast_mutex(owner), 6400); }},
};

class OwnerTest : public testing::TestWithParam<LockKind> {
 protected:
  OwnerTest() {
    machine_.alloc(2 * kPageSize);  // the owner's page is nobody else's
    owner_ = machine_.add_thread(machine_.add_process("installer.exe", 2200), 2204);
    machine_.alloc(2 * kPageSize);
    GetParam().make(machine_, owner_, machine_.add_thread(machine_.add_process("victim.exe", 2300), 2304));
    machine_.block(owner_, 6, {machine_.add_event()}, 6400, {"nt!KiSystemServiceCopyEnd"});
  }
  diagnose::Diagnosis diagnosis(dump::DumpFile dump) {
    session_ = synth::open_session(std::move(dump));
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  static bool orphaned(const diagnose::Diagnosis& d) {
    return std::any_of(d.findings.begin(), d.findings.end(), [](const diagnose::Finding& f) {
      return std::string_view(f.verdict) == "orphaned-lock";
    });
  }
  Machine machine_{synth::MachineOptions{}};
  VirtAddr owner_;
  std::unique_ptr<app::Session> session_;
};

TEST_P(OwnerTest, LivesWhileItWaits) {
  EXPECT_FALSE(orphaned(diagnosis(machine_.dump())));
}

// A thread that has ended is on no list; the lock still leads to it.
TEST_P(OwnerTest, ThatHasEndedIsGone) {
  machine_.terminate_and_unlist(owner_);
  const diagnose::Diagnosis d = diagnosis(machine_.dump());
  EXPECT_STREQ(d.verdict.cls, "orphaned-lock") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, owner_);
}

// Its stack is given back before its object is.
TEST_P(OwnerTest, ThatHasEndedWithoutAStack) {
  machine_.terminate_and_unlist(owner_);
  for (const char* member : {"StackBase", "StackLimit", "KernelStack", "InitialStack"})
    machine_.set(owner_, "_KTHREAD", member, 0);
  const diagnose::Diagnosis d = diagnosis(machine_.dump());
  EXPECT_STREQ(d.verdict.cls, "orphaned-lock") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.tid, 2204u);
}

// What the dump does not have is not gone.
TEST_P(OwnerTest, WhosePageIsMissingIsNotGone) {
  const Pfn page((machine_.memory().pte(owner_) & 0xf'ffff'f000) >> 12);
  EXPECT_FALSE(orphaned(diagnosis(synth::without_page(machine_, page))));
}

INSTANTIATE_TEST_SUITE_P(Kinds, OwnerTest, testing::ValuesIn(kKinds),
                         [](const auto& i) { return std::string(i.param.name); });

// One instance of a program waits for another one's mutex for hours; a queue for it needs it.
TEST(MutexOwner, ThatSleepsKeepsAQueueWaiting) {
  for (const u64 waiters : {u64{1}, u64{4}}) {
    Machine m{synth::MachineOptions{}};
    const VirtAddr p = m.add_process("service.exe", 2200), owner = m.add_thread(p, 2204);
    const VirtAddr mutant = m.add_mutant(owner);
    for (u64 i = 0; i < waiters; i++) m.wait_for_mutant(m.add_thread(p, 2300 + i * 4), mutant, 6400);
    m.block(owner, 6, {m.add_event()}, 6400, {"nt!KiSystemServiceCopyEnd"});
    const auto session = synth::open_session(m.dump());
    ASSERT_TRUE(session);
    const diagnose::Diagnosis d = diagnose::diagnose(session->world(), {});
    EXPECT_EQ(d.findings.empty(), waiters == 1) << d.verdict.summary;
    if (waiters == 1) continue;
    EXPECT_STREQ(d.verdict.cls, "unknown");
    EXPECT_EQ(d.findings.front().culprit.thread, owner);
  }
}

// The one thread with the lock's address on its stack waits for a window message: it is out of the kernel's
// locks. One that waits for something else may be the holder, and the report says that this is no record.
TEST(PushLockHolder, ByItsStack) {
  constexpr u8 kUserRequest = 6, kWrUserRequest = 13;
  for (const u8 reason : {kUserRequest, kWrUserRequest}) {
    Machine m{synth::MachineOptions{.build = "6.1.7601.24540"}};
    const VirtAddr lock = m.add_push_lock(),
                   keeper = m.add_thread(m.add_process("explorer.exe", 2000, 1), 2004);
    for (u64 i = 0; i < 3; i++)
      m.wait_for_push_lock(m.add_thread(m.add_process("winlogon.exe", 600 + i * 8, 1), 604 + i * 8), lock,
                           5000);
    m.keep_on_stack(keeper, lock.value());
    m.block(keeper, reason, {m.add_event()}, 5000, {"nt!KiSystemServiceCopyEnd"});
    const auto session = synth::open_session(m.dump());
    ASSERT_TRUE(session);
    const diagnose::Diagnosis d = diagnose::diagnose(session->world(), {});
    EXPECT_STREQ(d.verdict.cls, "unknown") << d.verdict.summary;
    ASSERT_FALSE(d.findings.empty());
    EXPECT_EQ(d.findings[0].culprit.thread, reason == kUserRequest ? keeper : VirtAddr());
    EXPECT_EQ(d.verdict.summary.find("seems to hold") != std::string::npos, reason == kUserRequest)
        << d.verdict.summary;
  }
}

// ExSetResourceOwnerPointer: the owner is a driver's structure.
TEST(ResourceOwner, ThatIsAPointer) {
  Machine m{synth::MachineOptions{}};
  const VirtAddr p = m.add_process("svchost.exe", 900), holder = m.add_thread(p, 904), r = m.add_resource();
  m.own_exclusive(r, VirtAddr(m.alloc(64).value() | 3));
  for (u64 i = 0; i < 3; i++) m.wait_for_resource(m.add_thread(p, 908 + i * 4), r, true, 4000);
  m.block(holder, 6, {m.add_event()}, 4000, {"nt!KiSystemServiceCopyEnd"});
  const auto session = synth::open_session(m.dump());
  ASSERT_TRUE(session);
  const diagnose::Diagnosis d = diagnose::diagnose(session->world(), {});
  EXPECT_STREQ(d.verdict.cls, "unknown") << d.verdict.summary;
  ASSERT_EQ(d.findings.size(), 1u);
  EXPECT_TRUE(d.findings[0].culprit.thread.is_null());
  EXPECT_NE(d.findings[0].evidence[0].text.find("ExSetResourceOwnerPointer"), std::string::npos)
      << d.findings[0].evidence[0].text;
}

TEST(AlpcServer, ThatHasEndedOwesAnAnswer) {
  Machine m{synth::MachineOptions{}};
  const VirtAddr p = m.add_process("server.exe", 2200), server = m.add_thread(p, 2204);
  m.wait_for_reply(m.add_thread(m.add_process("client.exe", 2300), 2304), m.add_alpc_port(p, ""), server,
                   6400);
  m.terminate_and_unlist(server);
  const auto session = synth::open_session(m.dump());
  ASSERT_TRUE(session);
  const diagnose::Diagnosis d = diagnose::diagnose(session->world(), {});
  EXPECT_STREQ(d.verdict.cls, "orphaned-lock") << d.verdict.summary;
  EXPECT_EQ(d.verdict.confidence, Confidence::heuristic);
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings.front().culprit.thread, server);
}

}  // namespace
}  // namespace unhang
