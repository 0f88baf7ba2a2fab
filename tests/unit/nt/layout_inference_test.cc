// Patch levels of a build whose members lie elsewhere than in the built-in layout: found by what the dump's
// own objects, KDBG and the kernel's code say.
#include "nt/layout_inference.h"

#include <gtest/gtest.h>

#include "diagnose/diagnose.h"
#include "nt/member.h"
#include "nt/objects/process.h"
#include "nt/objects/thread.h"
#include "synth/scene.h"

namespace unhang {
namespace {

using Moved = synth::MachineOptions::Moved;

struct PatchLevel {
  const char* name;
  const char* build;
  std::vector<Moved> moved;
};

// 7601.17514 has a KTHREAD of 0x360 bytes, 7601.24540 one of 0x368: all of ETHREAD lies 8 bytes earlier.
const PatchLevel kLevels[] = {
    {"ethread_7601_17514", "6.1.7601.24540", {{"_ETHREAD", 0x360, -8}}},
    {"ethread_later", "10.0.19041.804", {{"_ETHREAD", 0x430, 0x18}}},
    {"eprocess_tail", "10.0.17763.379", {{"_EPROCESS", 0x3f0, 0x10}}},
    {"both", "10.0.22000.318", {{"_EPROCESS", 0x430, 0x20}, {"_ETHREAD", 0x480, -0x10}}},
    // Longer from SuspendEvent on: ETHREAD moves with it.
    {"kthread_middle", "10.0.19041.804", {{"_KTHREAD", 0x2e0, 0x10}, {"_ETHREAD", 0x430, 0x10}}},
    // What lies before the first list that proves itself moves too.
    {"kthread_wait_reason", "10.0.20348.288", {{"_KTHREAD", 0x258, 8}, {"_ETHREAD", 0x480, 8}}},
    // Moved so that another build's layout passes more of the checks.
    {"both_9600", "6.3.9600.19913", {{"_EPROCESS", 0x3d0, 0x10}, {"_ETHREAD", 0x650, 0x10}}},
    {"eprocess_9600", "6.3.9600.19913", {{"_EPROCESS", 0x430, -8}, {"_ETHREAD", 0x5d0, 0x10}}},
};

class InferenceTest : public testing::TestWithParam<PatchLevel> {};

// Every scene on each patch level, without symbols: the same verdict and culprit as on the known one.
TEST_P(InferenceTest, SameVerdict) {
  for (const synth::NamedScene& situation : synth::kScenes) {
    SCOPED_TRACE(situation.name);
    const synth::Scene scene = situation.make({.build = GetParam().build, .moved = GetParam().moved});
    const auto target = nt::Target::open(scene.machine->dump(), {});
    ASSERT_TRUE(target.has_value()) << text(target.error());
    waits::World world(**target);
    const diagnose::Diagnosis d = diagnose::diagnose(world, {});
    EXPECT_STREQ(d.verdict.cls, scene.verdict.c_str()) << d.verdict.summary;
    if (!scene.culprit.is_null() && d.verdict.finding) {
      EXPECT_EQ(d.findings[*d.verdict.finding].culprit.thread, scene.culprit) << d.verdict.summary;
    }
    // Never surer than a known layout that fits.
    EXPECT_GE(d.verdict.confidence, Confidence::derived);
  }
}

TEST_P(InferenceTest, SaysWhatMoved) {
  const synth::Scene scene = synth::healthy({.build = GetParam().build, .moved = GetParam().moved});
  const auto target = nt::Target::open(scene.machine->dump(), {});
  ASSERT_TRUE(target.has_value());
  bool said = false;
  for (const nt::Known& k : (*target)->known())
    said |= k.what == "members that lie elsewhere than in the layout";
  EXPECT_TRUE(said);
}

// The members that lists and requests hang on are where the machine has them, not only near there.
TEST_P(InferenceTest, MembersAreFound) {
  const synth::Scene scene = synth::io_stall({.build = GetParam().build, .moved = GetParam().moved});
  const auto target = nt::Target::open(scene.machine->dump(), {});
  ASSERT_TRUE(target.has_value());
  const auto expect = [&](const auto& member, const char* type, const char* path) {
    const auto bound = (*target)->bind(member);
    ASSERT_TRUE(bound.has_value()) << path;
    EXPECT_EQ(bound->offset, scene.machine->offset(type, path)) << type << "." << path;
  };
  expect(nt::ETHREAD::ThreadListEntry, "_ETHREAD", "ThreadListEntry");
  expect(nt::ETHREAD::IrpList, "_ETHREAD", "IrpList");
  expect(nt::ETHREAD::UniqueThread, "_ETHREAD", "Cid.UniqueThread");
  expect(nt::KTHREAD::MutantListHead, "_KTHREAD", "MutantListHead");
  expect(nt::KTHREAD::WaitReason, "_KTHREAD", "WaitReason");
  expect(nt::KTHREAD::SuspendCount, "_KTHREAD", "SuspendCount");
  expect(nt::EPROCESS::ThreadListHead, "_EPROCESS", "ThreadListHead");
  expect(nt::EPROCESS::ActiveProcessLinks, "_EPROCESS", "ActiveProcessLinks");
  expect(nt::EPROCESS::UniqueProcessId, "_EPROCESS", "UniqueProcessId");
}

INSTANTIATE_TEST_SUITE_P(PatchLevels, InferenceTest, testing::ValuesIn(kLevels),
                         [](const auto& i) { return std::string(i.param.name); });

// A layout that fits is left alone.
TEST(Inference, NothingMovesWhereNothingMoved) {
  const synth::Scene scene = synth::busy_owner({.build = "10.0.19041.804"});
  const auto target = nt::Target::open(scene.machine->dump(), {});
  ASSERT_TRUE(target.has_value());
  for (const nt::Known& k : (*target)->known())
    EXPECT_NE(k.what, "members that lie elsewhere than in the layout") << k.how;
  EXPECT_EQ((*target)->bind(nt::ETHREAD::IrpList)->confidence, Confidence::derived);
}

}  // namespace
}  // namespace unhang
