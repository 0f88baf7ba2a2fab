// AutoBoost's entries on every build: in the KTHREAD, in the ETHREAD, in a block of their own.
#include "nt/objects/lock_entry.h"

#include <gtest/gtest.h>

#include "nt/target.h"
#include "synth/machine.h"

namespace unhang {
namespace {

class LockEntryTest : public testing::TestWithParam<std::string> {};

TEST_P(LockEntryTest, WhatAThreadHoldsAndWaitsFor) {
  synth::Machine m({.build = GetParam()});
  const VirtAddr process = m.add_process("a.exe", 600);
  const VirtAddr thread = m.add_thread(process, 604), other = m.add_thread(process, 608);
  const VirtAddr held = m.add_push_lock(), wanted = m.add_push_lock();
  m.own_push_lock(held, thread);
  m.own_push_lock(wanted, other);
  m.wait_for_push_lock(thread, wanted, 100);
  m.block(other, 6, {m.add_event()}, 100, {});
  const auto target = nt::Target::open(m.dump(), {});
  ASSERT_TRUE(target.has_value()) << text(target.error());
  const std::vector<nt::LockEntry> entries = nt::read_lock_entries(**target, thread);
  if (GetParam().starts_with("6.1.") || GetParam().starts_with("6.2.")) {
    EXPECT_TRUE(entries.empty()) << "Windows 7 and 8 have none";
    return;
  }
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].lock, held);
  EXPECT_TRUE(entries[0].acquired && !entries[0].waiting);
  EXPECT_EQ(entries[1].lock, wanted);
  EXPECT_TRUE(entries[1].waiting && !entries[1].acquired);
  for (const nt::LockEntry& e : entries) EXPECT_EQ(e.confidence, Confidence::derived);
}

INSTANTIATE_TEST_SUITE_P(Builds, LockEntryTest, testing::ValuesIn(synth::build_names()), [](const auto& i) {
  std::string s = i.param;
  std::replace(s.begin(), s.end(), '.', '_');
  return s;
});

}  // namespace
}  // namespace unhang
