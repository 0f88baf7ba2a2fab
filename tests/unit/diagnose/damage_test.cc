// Standing properties (DESIGN section 8): missing pages and bent pointers never make a verdict surer, never
// name another culprit with the same confidence, and never keep the tool from ending.
#include "synth/damage.h"

#include <gtest/gtest.h>

#include "base/format.h"
#include "diagnose/diagnose.h"
#include "synth/scene.h"

namespace unhang {
namespace {

struct Outcome {
  bool opened = false;
  std::string cls;
  VirtAddr culprit{};
  Confidence confidence = Confidence::guess;
  std::string summary;
  bool cycles_wait = true;  // every thread of every cycle waits
};

Outcome analyse(dump::DumpFile dump) {
  Outcome o;
  auto target = nt::Target::open(std::move(dump), {});
  if (!target) return o;
  o.opened = true;
  waits::World world(**target);
  const diagnose::Diagnosis d = diagnose::diagnose(world, {});
  o.cls = d.verdict.cls;
  o.confidence = d.verdict.confidence;
  o.summary = d.verdict.summary;
  for (const auto& cycle : d.cycles)
    for (const VirtAddr t : cycle) o.cycles_wait &= world.thread(t) != nullptr && world.thread(t)->waiting();
  if (d.verdict.finding) o.culprit = d.findings[*d.verdict.finding].culprit.thread;
  return o;
}

void expect_no_surer(const Outcome& whole, const Outcome& damaged, const std::string& what) {
  if (!damaged.opened || damaged.cls == "unknown" || damaged.cls == "no-hang") {
    // Losing the verdict is allowed; turning a hang into a clean bill of health is not.
    EXPECT_FALSE(damaged.opened && damaged.cls == "no-hang" && whole.cls != "no-hang" &&
                 !(whole.confidence < damaged.confidence))
        << what << ": " << damaged.summary;
    return;
  }
  EXPECT_FALSE(damaged.confidence < whole.confidence)
      << what << ": the verdict became surer: " << damaged.summary;
  if (damaged.culprit != whole.culprit) {
    EXPECT_LT(whole.confidence, damaged.confidence)
        << what << ": another culprit with the same confidence: " << damaged.summary;
  }
}

class DamageTest : public testing::TestWithParam<synth::NamedScene> {};

TEST_P(DamageTest, AnyPageMayBeMissing) {
  synth::Scene scene = GetParam().make({.build = "10.0.19041.804"});
  const Outcome whole = analyse(scene.machine->dump());
  ASSERT_EQ(whole.cls, scene.verdict);
  const std::vector<Pfn> pages = scene.machine->memory().pages().all();
  for (const Pfn pfn : pages)
    expect_no_surer(whole, analyse(synth::without_page(*scene.machine, pfn)),
                    fmt::format("without page {:#x}", pfn.address().value()));
}

// Without the clock the latest wait is the present: who holds what is known all the same.
TEST(Clock, ItsPageMayBeMissing) {
  for (auto* make : {synth::busy_owner, synth::deadlock, synth::io_stall}) {
    synth::Scene scene = make({.build = "10.0.19041.804"});
    const Outcome whole = analyse(scene.machine->dump());
    const u64 frame = scene.machine->memory().pte(nt::kUserSharedData) >> 12 & 0xfffffff;
    const Outcome without = analyse(synth::without_page(*scene.machine, Pfn(frame)));
    EXPECT_EQ(without.cls, whole.cls);
    EXPECT_EQ(without.culprit, whole.culprit);
    expect_no_surer(whole, without, whole.cls);
  }
}

// Every pointer that the tool follows from list to list, bent to itself, to null, to nowhere, to another
// object.
TEST_P(DamageTest, AnyLinkMayPointAnywhere) {
  synth::Scene scene = GetParam().make({.build = "6.1.7601.24540"});
  synth::Machine& m = *scene.machine;
  const Outcome whole = analyse(m.dump());
  ASSERT_EQ(whole.cls, scene.verdict);
  std::vector<VirtAddr> links{m.symbol("PsActiveProcessHead"), m.symbol("ExpSystemResourcesList"),
                              m.symbol("PsLoadedModuleList")};
  for (const auto& [role, t] : scene.thread) {
    links.push_back(t + m.offset("_ETHREAD", "ThreadListEntry"));
    links.push_back(t + m.offset("_ETHREAD", "IrpList"));
    links.push_back(t + m.offset("_KTHREAD", "WaitBlockList"));
    links.push_back(t + m.offset("_KTHREAD", "KernelStack"));
  }
  for (const auto& [role, o] : scene.object)
    if (is_kernel(o))
      for (u64 at = 0; at < 0x40; at += 8) links.push_back(o + at);
  for (const VirtAddr link : links)
    for (const VirtAddr value : {link, VirtAddr(), VirtAddr(0x4141414141414141), VirtAddr(0xfffff6fb7dbed000),
                                 links.front(), VirtAddr(m.system_process())}) {
      SCOPED_TRACE(fmt::format("{} -> {}", link, value));
      const Outcome o = analyse(synth::with_pointer(m, link, value));
      EXPECT_TRUE(o.opened);
    }
}

// Of moments that are mixed no one is true, so another verdict is no mistake: the same one must not become
// surer, and a circle in which somebody has gone on is no proof.
void expect_sound(const Outcome& whole, const Outcome& smeared, const std::string& what) {
  EXPECT_TRUE(smeared.opened) << what;
  if (smeared.cls == whole.cls) {
    EXPECT_FALSE(smeared.confidence < whole.confidence) << what << ": " << smeared.summary;
  }
  if (smeared.cls == "deadlock" && !smeared.cycles_wait) {
    EXPECT_GE(smeared.confidence, Confidence::heuristic) << what << ": " << smeared.summary;
  }
}

// The machine ran on while it was dumped: the threads that waited were woken, and a part of the pages shows
// it.
TEST_P(DamageTest, AnyPageMayBeLater) {
  synth::Scene scene = GetParam().make({.build = "10.0.19041.804"});
  synth::Machine& m = *scene.machine;
  const Outcome whole = analyse(m.dump());
  ASSERT_EQ(whole.cls, scene.verdict);
  synth::Smear smear(m);
  for (const auto& [role, t] : scene.thread) {
    if (m.get(t, "_KTHREAD", "State") == 5) m.make_ready(t, 0);
    m.set(t, "_KTHREAD", "ContextSwitches", m.get(t, "_KTHREAD", "ContextSwitches") + 1);
  }
  const std::vector<Pfn> changed = smear.changed();
  ASSERT_EQ(changed.empty(), scene.thread.empty());
  for (size_t i = 0; i < changed.size(); i++) {
    const std::string where = fmt::format("page {:#x}", changed[i].address().value());
    expect_sound(whole, analyse(smear.with_later({changed[i]})), where + " alone is later");
    // As dumps are written, from low addresses to high ones.
    expect_sound(whole,
                 analyse(smear.with_later({changed.begin() + static_cast<std::ptrdiff_t>(i), changed.end()})),
                 where + " and all behind it are later");
  }
}

INSTANTIATE_TEST_SUITE_P(Scenes, DamageTest, testing::ValuesIn(synth::kScenes),
                         [](const auto& i) { return std::string(i.param.name); });

}  // namespace
}  // namespace unhang
