// Queued spin locks as the kernel numbers them, and as drivers keep them on their stacks.
#include "nt/objects/queued_lock.h"

#include "app/command.h"
#include "nt/objects/cpu.h"
#include "synth/scene.h"
#include "synth/session.h"

namespace unhang {
namespace {

using synth::Machine;

constexpr u32 kIoCancel = 7;

class NumberedLocks : public testing::Test {
 protected:
  NumberedLocks() : machine_({.processors = 4}) {
    lock_ = machine_.alloc(8);
    for (u32 cpu = 0; cpu < 4; cpu++) machine_.memory().put<u64>(place(cpu) + 8, lock_.value());
  }
  // The processor's place in the queue of the I/O cancel lock.
  VirtAddr place(u32 cpu) {
    return machine_.kprcb(cpu) + machine_.offset("_KPRCB", "LockQueue") + kIoCancel * 16;
  }
  void open() {
    session_ = synth::open_session(machine_.dump());
    ASSERT_NE(session_, nullptr);
    const auto all = nt::read_numbered_locks(session_->target());
    ASSERT_TRUE(all) << text(all.error());
    ASSERT_GT(all->size(), kIoCancel);
    found_ = (*all)[kIoCancel];
  }
  std::string row() {
    const auto n = app::run_line(*session_, "!qlocks");
    if (!n) return text(n.error());
    for (const Node& line : n->get("lines").items())
      if (const std::string s(line.get("text").as_text()); s.starts_with("IO   - Cancel")) return s;
    return "no such row";
  }
  Machine machine_;
  VirtAddr lock_;
  std::unique_ptr<app::Session> session_;
  nt::NumberedLock found_;
};

TEST_F(NumberedLocks, FreeLockHasNobody) {
  open();
  EXPECT_EQ(found_.lock, lock_);
  EXPECT_FALSE(found_.owner);
  EXPECT_TRUE(found_.waiters.empty());
  EXPECT_EQ(row(), "IO   - Cancel                     ");
}

TEST_F(NumberedLocks, OwnerAloneIsTheLastInItsQueue) {
  machine_.queue_for_spin_lock(lock_, place(2));
  open();
  EXPECT_EQ(found_.owner, 2u);
  EXPECT_EQ(row(), "IO   - Cancel               O     ");
}

// Each place leads to the next one, whatever the numbers of the processors.
TEST_F(NumberedLocks, WaitersInTheirOrder) {
  for (const u32 cpu : {1, 3, 0}) machine_.queue_for_spin_lock(lock_, place(cpu));
  open();
  EXPECT_EQ(found_.owner, 1u);
  EXPECT_EQ(found_.waiters, (std::vector<u32>{3, 0}));
  EXPECT_EQ(row(), "IO   - Cancel         2  O     1  ");
  const waits::Lock* lock = session_->world().lock(lock_, {});
  ASSERT_NE(lock, nullptr);
  EXPECT_EQ(lock->name, "LockQueueIoCancelLock");
  ASSERT_EQ(lock->owners.size(), 1u);
  EXPECT_EQ(lock->owners[0].thread, session_->target().cpus()[1].current_thread);
  EXPECT_EQ(lock->waiters.size(), 2u);
  const auto running = app::run_line(*session_, "!running -i");
  ASSERT_TRUE(running);
  EXPECT_EQ(running->get("cpus").items()[1].get("queued_locks").as_text(), ".......O........");
  EXPECT_EQ(running->get("cpus").items()[3].get("queued_locks").as_text(), ".......W........");
}

// The owner's own bit says it even when the queue cannot be followed.
TEST_F(NumberedLocks, OwnerByItsBit) {
  machine_.queue_for_spin_lock(lock_, place(0));
  machine_.queue_for_spin_lock(lock_, place(1));
  machine_.memory().put<u64>(place(0), 0);
  machine_.memory().put<u64>(place(0) + 8, lock_.value() | 2);
  open();
  EXPECT_EQ(found_.owner, 0u);
  EXPECT_EQ(found_.waiters, (std::vector<u32>{1}));
}

TEST_F(NumberedLocks, WaiterWithoutAnOwner) {
  machine_.memory().put<u64>(place(1) + 8, lock_.value() | 1);
  open();
  EXPECT_FALSE(found_.owner);
  EXPECT_EQ(row(), "IO   - Cancel            C        ");
}

// A processor that waits for what it has itself.
TEST(QueuedSpinLock, TakenTwice) {
  Machine m{synth::MachineOptions{}};
  const VirtAddr t = m.add_thread(m.add_process("victim.exe", 2300), 2304), lock = m.alloc(8);
  m.queue_for_spin_lock(lock, m.keep_on_stack(t, 0));
  m.queue_for_spin_lock(lock, m.keep_on_stack(t, 0));
  m.run(t, 1,
        {"nt!KeAcquireInStackQueuedSpinLock", "avfilter!Again", "avfilter!Worker",
         "nt!PspSystemThreadStartup"});
  const auto session = synth::open_session(m.dump());
  ASSERT_NE(session, nullptr);
  const waits::World& w = session->world();
  const waits::Lock* found = w.lock(lock, t);
  ASSERT_NE(found, nullptr);
  ASSERT_EQ(found->owners.size(), 1u);
  EXPECT_EQ(found->owners[0].thread, t);
  ASSERT_EQ(found->waiters.size(), 1u);
  EXPECT_EQ(found->waiters[0].thread, t);
  const diagnose::Diagnosis d = diagnose::diagnose(session->world(), {});
  EXPECT_STREQ(d.verdict.cls, "deadlock") << d.verdict.summary;
  EXPECT_EQ(d.cycles, (std::vector<std::vector<VirtAddr>>{{t}}));
}

// The lock's address alone, as every function that was given it keeps it, is no place in its queue.
TEST(QueuedSpinLock, AddressOnAStackIsNoOwner) {
  Machine m{synth::MachineOptions{}};
  const VirtAddr p = m.add_process("victim.exe", 2300), t = m.add_thread(p, 2304),
                 other = m.add_thread(p, 2308), lock = m.alloc(8), gone = m.alloc(16);
  m.queue_for_spin_lock(lock, gone);
  m.queue_for_spin_lock(lock, m.keep_on_stack(t, 0));
  m.keep_on_stack(other, lock.value());
  m.run(t, 1, {"nt!KeAcquireInStackQueuedSpinLock", "avfilter!Again", "nt!PspSystemThreadStartup"});
  m.run(other, 0, {"avfilter!Look", "nt!PspSystemThreadStartup"});
  const auto session = synth::open_session(m.dump());
  ASSERT_NE(session, nullptr);
  const waits::Lock* found = session->world().lock(lock, t);
  ASSERT_NE(found, nullptr);
  EXPECT_TRUE(found->owners.empty());
  EXPECT_EQ(found->waiters.size(), 1u);
}

}  // namespace
}  // namespace unhang
