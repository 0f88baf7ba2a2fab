// Two dumps of one machine: the same world some seconds later, with nothing moved, and with everything moved.
#include "diagnose/difference.h"

#include <gtest/gtest.h>

#include "synth/damage.h"
#include "synth/scene.h"

namespace unhang {
namespace {

const VirtAddr kShared(0xFFFFF78000000000);
constexpr u64 kTenSeconds = 100'000'000;

class DifferenceTest : public testing::Test {
 protected:
  DifferenceTest() : DifferenceTest(synth::busy_owner({})) {}
  explicit DifferenceTest(synth::Scene scene) : scene_(std::move(scene)), machine_(*scene_.machine) {}

  void pass_time(u64 by) {
    auto& m = machine_.memory();
    m.put<u64>(kShared + 8, m.get<u64>(kShared + 8) + by);
    m.put<u64>(kShared + 0x14, m.get<u64>(kShared + 0x14) + by);
  }

  std::unique_ptr<waits::World> world() {
    auto target = nt::Target::open(machine_.dump(), {});
    EXPECT_TRUE(target.has_value());
    targets_.push_back(std::move(*target));
    return std::make_unique<waits::World>(*targets_.back());
  }

  synth::Scene scene_;
  synth::Machine& machine_;
  std::vector<std::unique_ptr<nt::Target>> targets_;
};

TEST_F(DifferenceTest, NothingMoved) {
  const auto before = world();
  pass_time(kTenSeconds);
  const u64 ticks = machine_.get(scene_.culprit, "_KTHREAD", "KernelTime");
  machine_.set(scene_.culprit, "_KTHREAD", "KernelTime", ticks + 600);
  const auto after = world();
  const auto d = diagnose::difference(*before, *after);
  ASSERT_TRUE(d.has_value()) << text(d.error());
  EXPECT_EQ(d->verdict, "stuck") << d->summary;
  EXPECT_EQ(d->elapsed_ms, 10000u);
  EXPECT_EQ(d->ended, 0u);
  EXPECT_EQ(d->started, 0u);
  ASSERT_FALSE(d->busy.empty());
  EXPECT_EQ(d->busy.front().thread, scene_.culprit);
  EXPECT_EQ(d->busy.front().cpu_ms, 9375u);  // 600 ticks of 15.625 ms
  for (const auto& l : d->locks) EXPECT_TRUE(l.same_owners);
  EXPECT_FALSE(d->locks.empty());
  for (const auto& t : d->stuck) EXPECT_TRUE(t.same_stack);
}

// A wait for a resource begins anew every four seconds: that is no progress.
TEST_F(DifferenceTest, ResourceWaitsBeginAnew) {
  const auto before = world();
  pass_time(kTenSeconds);
  for (const auto& t : before->threads) {
    if (!t.waiting() || t.thread.wait_reason != nt::kWrResource) continue;
    machine_.set(t.thread.address, "_KTHREAD", "ContextSwitches", t.thread.context_switches + 3);
    machine_.set(t.thread.address, "_KTHREAD", "WaitTime", t.thread.wait_time + 512);
  }
  const auto d = diagnose::difference(*before, *world());
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->verdict, "stuck") << d->summary;
  EXPECT_FALSE(d->stuck.empty());
}

// Those in a queue stand still while it moves.
class QueueDifferenceTest : public DifferenceTest {
 protected:
  QueueDifferenceTest() : DifferenceTest(synth::healthy({})) {}
};

TEST_F(QueueDifferenceTest, AQueueThatMovesIsNotStuck) {
  const VirtAddr process = machine_.add_process("svchost.exe", 900);
  std::vector<VirtAddr> threads;
  for (u32 i = 0; i < 40; i++) threads.push_back(machine_.add_thread(process, 904 + 4 * i));
  const VirtAddr r = machine_.add_resource();
  machine_.own_exclusive(r, threads[0]);
  machine_.run(threads[0], 0, {"nt!IopParseDevice"});
  for (size_t i = 2; i < threads.size(); i++) machine_.wait_for_resource(threads[i], r, true, 600);
  const auto before = world();
  pass_time(kTenSeconds);
  machine_.own_exclusive(r, threads[1]);
  const auto d = diagnose::difference(*before, *world());
  ASSERT_TRUE(d.has_value());
  EXPECT_TRUE(d->summary.starts_with("5 waiting threads")) << d->summary;  // those of the scene itself
  EXPECT_NE(d->summary.find("38 stand in a queue that moved"), std::string::npos) << d->summary;
}

// One of two shared owners has gone: those behind the other one are as stuck as before.
TEST_F(QueueDifferenceTest, ASharedOwnerThatLeavesMovesNothing) {
  const VirtAddr process = machine_.add_process("svchost.exe", 900);
  std::vector<VirtAddr> threads;
  for (u32 i = 0; i < 9; i++) threads.push_back(machine_.add_thread(process, 904 + 4 * i));
  const VirtAddr r = machine_.add_resource();
  machine_.own_shared(r, {threads[0], threads[1]});
  for (size_t i = 2; i < threads.size(); i++) machine_.wait_for_resource(threads[i], r, true, 600);
  const auto before = world();
  pass_time(kTenSeconds);
  machine_.own_shared(r, {threads[0]});
  const auto d = diagnose::difference(*before, *world());
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->verdict, "stuck") << d->summary;
}

// The clock was set between the dumps: the threads are the same ones.
TEST_F(DifferenceTest, TheClockMayBeSet) {
  const auto made = world();
  for (const auto& t : made->threads)
    machine_.set(t.thread.address, "_ETHREAD", "CreateTime", 0x1DA'0000'0000'0000 + t.thread.tid);
  const auto before = world();
  pass_time(kTenSeconds);
  auto& m = machine_.memory();
  m.put<u64>(kShared + 0x14, m.get<u64>(kShared + 0x14) + 3600ULL * 10'000'000);
  const auto after = world();
  EXPECT_TRUE(diagnose::difference(*before, *after).has_value());
  // Another boot, with threads made at other times.
  for (const auto& t : after->threads)
    machine_.set(t.thread.address, "_ETHREAD", "CreateTime", 0x1DA'1111'0000'0000 + t.thread.tid);
  EXPECT_FALSE(diagnose::difference(*before, *world()).has_value());
}

// What is missing is said, and nothing found in a damaged dump is no "idle".
TEST_F(DifferenceTest, WhatIsMissingIsSaid) {
  const auto before = world();
  pass_time(kTenSeconds);
  auto later = nt::Target::open(
      synth::without_page(machine_, Pfn(machine_.memory().pte(machine_.system_process()) >> 12 & 0xfffffff)),
      {});
  ASSERT_TRUE(later.has_value());
  waits::World after(**later);
  const auto d = diagnose::difference(*before, after);
  ASSERT_TRUE(d.has_value()) << text(d.error());
  EXPECT_FALSE(d->gaps.empty());
  EXPECT_NE(d->verdict, "idle");
}

TEST_F(DifferenceTest, EverythingMoved) {
  const auto before = world();
  pass_time(kTenSeconds);
  for (const auto& t : before->threads) {
    if (!t.waiting()) continue;
    machine_.set(t.thread.address, "_KTHREAD", "ContextSwitches", t.thread.context_switches + 7);
    machine_.set(t.thread.address, "_KTHREAD", "WaitTime", t.thread.wait_time + 1);
  }
  const auto after = world();
  const auto d = diagnose::difference(*before, *after);
  ASSERT_TRUE(d.has_value()) << text(d.error());
  EXPECT_EQ(d->verdict, "slow") << d->summary;
  EXPECT_TRUE(d->stuck.empty());
}

// Who waits for an answer is stuck where the one that must answer is, and idle where that one is.
TEST_F(DifferenceTest, RequestsCountBehindLocks) {
  const VirtAddr server_process = machine_.add_process("lsass.exe", 620),
                 client_process = machine_.add_process("winlogon.exe", 640, 1);
  const VirtAddr server = machine_.add_thread(server_process, 700),
                 idler = machine_.add_thread(server_process, 704),
                 client = machine_.add_thread(client_process, 644),
                 patient = machine_.add_thread(client_process, 648);
  const VirtAddr port = machine_.add_alpc_port(server_process, "\\LsaPort"), r = machine_.add_resource();
  machine_.own_exclusive(r, scene_.culprit);
  machine_.wait_for_resource(server, r, true, 600);
  machine_.block(idler, 6, {machine_.add_event()}, 600, {"nt!KiSystemServiceCopyEnd"});
  machine_.wait_for_reply(client, port, server, 600);
  machine_.wait_for_reply(patient, port, idler, 600);
  const auto before = world();
  pass_time(kTenSeconds);
  const auto after = world();
  const auto d = diagnose::difference(*before, *after);
  ASSERT_TRUE(d.has_value());
  const auto stuck = [&](VirtAddr t) {
    return std::any_of(d->stuck.begin(), d->stuck.end(), [&](const auto& c) { return c.thread == t; });
  };
  EXPECT_TRUE(stuck(server));
  EXPECT_TRUE(stuck(client));
  EXPECT_FALSE(stuck(patient));
}

TEST_F(DifferenceTest, WrongOrderAndOtherMachines) {
  const auto first = world();
  const auto none = diagnose::difference(*first, *first);
  ASSERT_TRUE(none.has_value());
  EXPECT_EQ(none->verdict, "unknown");
  EXPECT_NE(none->summary.find("clock stood still"), std::string::npos) << none->summary;
  pass_time(kTenSeconds);
  const auto second = world();
  const auto backwards = diagnose::difference(*second, *first);
  ASSERT_FALSE(backwards.has_value());
  EXPECT_NE(text(backwards.error()).find("older"), std::string::npos);
  // Another boot: the interrupt time began again.
  machine_.memory().put<u64>(kShared + 8, 50'000'000);
  const auto rebooted = world();
  EXPECT_FALSE(diagnose::difference(*first, *rebooted).has_value());
}

}  // namespace
}  // namespace unhang
