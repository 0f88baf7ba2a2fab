// An SRW lock names no owner: who keeps its address, else who runs, is a candidate.
#include "diagnose/diagnose.h"
#include "synth/session.h"

namespace unhang {
namespace {

constexpr u8 kUserRequest = 6, kWrQueue = 15, kWrAlertByThreadId = 37;
const synth::Labels kFromUser{"nt!KiSystemServiceCopyEnd"};

class SrwLockTest : public testing::Test {
 protected:
  SrwLockTest() {
    process_ = machine_.add_process("service.exe", 2200);
    const PhysAddr tables(machine_.get(process_, "_KPROCESS", "DirectoryTableBase"));
    lock_ = machine_.alloc_user(process_, 0x1000) + 0x80;
    waiter_ = machine_.add_thread(process_, 2204);
    machine_.give_user_stack(waiter_, {lock_.value()});
    const VirtAddr teb(machine_.get(waiter_, "_KTHREAD", "Teb"));
    const u64 block = machine_.memory().get<u64>(teb + 8, tables) - 0x100;
    machine_.memory().put<u64>(lock_, block | 3, tables);  // Locked, Waiting
    machine_.block(waiter_, kWrAlertByThreadId, {}, 6400, kFromUser);
  }
  VirtAddr add_thread(u64 tid, bool keeps_the_address) {
    const VirtAddr t = machine_.add_thread(process_, tid);
    machine_.give_user_stack(t, {keeps_the_address ? lock_.value() : 0});
    return t;
  }
  const waits::Edge* edge() {
    session_ = synth::open_session(machine_.dump());
    if (session_)
      for (const waits::Edge& e : session_->world().edges)
        if (e.from == waiter_ && e.object == lock_) return &e;
    ADD_FAILURE() << "nobody waits for the lock";
    return nullptr;
  }
  synth::Machine machine_{synth::MachineOptions{}};
  VirtAddr process_, lock_, waiter_;
  std::unique_ptr<app::Session> session_;
};

TEST_F(SrwLockTest, OneKeepsTheAddress) {
  const VirtAddr keeper = add_thread(2208, true);
  machine_.block(keeper, kUserRequest, {machine_.add_event()}, 6400, kFromUser);
  machine_.run(add_thread(2212, false), 0, kFromUser);
  const waits::Edge* e = edge();
  ASSERT_NE(e, nullptr);
  EXPECT_EQ(e->to, keeper);
  EXPECT_EQ(e->confidence, Confidence::heuristic);
}

// A pool's thread that waits for work has left what it did before; its stack has not.
TEST_F(SrwLockTest, IdleOfAPoolIsNone) {
  machine_.block(add_thread(2208, true), kWrQueue, {machine_.add_queue()}, 6400, kFromUser);
  const VirtAddr running = add_thread(2212, false);
  machine_.run(running, 0, kFromUser);
  const waits::Edge* e = edge();
  ASSERT_NE(e, nullptr);
  EXPECT_TRUE(e->to.is_null());
  ASSERT_EQ(e->candidates.size(), 1u);
  EXPECT_EQ(e->candidates[0].thread, running);
  EXPECT_EQ(e->candidates[0].confidence, Confidence::guess);
}

TEST_F(SrwLockTest, RunningOnesFirst) {
  machine_.block(add_thread(2208, true), kUserRequest, {machine_.add_event()}, 6400, kFromUser);
  const VirtAddr running = add_thread(2212, true);
  machine_.run(running, 0, kFromUser);
  const waits::Edge* e = edge();
  ASSERT_NE(e, nullptr);
  EXPECT_TRUE(e->to.is_null());
  ASSERT_EQ(e->candidates.size(), 2u);
  EXPECT_EQ(e->candidates[0].thread, running);
}

}  // namespace
}  // namespace unhang
