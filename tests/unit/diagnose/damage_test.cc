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
  if (d.verdict.finding) o.culprit = d.findings[*d.verdict.finding].culprit.thread;
  return o;
}

void expect_no_surer(const Outcome& whole, const Outcome& damaged, const std::string& what) {
  if (!damaged.opened || damaged.cls == "unknown" || damaged.cls == "no-hang") {
    // Losing the verdict is allowed; turning a hang into a clean bill of health is not.
    EXPECT_FALSE(damaged.opened && damaged.cls == "no-hang" && whole.cls != "no-hang" &&
                 !(whole.confidence < damaged.confidence))
        << what;
    return;
  }
  EXPECT_FALSE(damaged.confidence < whole.confidence) << what << ": the verdict became surer";
  if (damaged.culprit != whole.culprit) {
    EXPECT_LT(whole.confidence, damaged.confidence) << what << ": another culprit with the same confidence";
  }
}

using Make = synth::Scene (*)(synth::MachineOptions);
class DamageTest : public testing::TestWithParam<std::pair<const char*, Make>> {};

TEST_P(DamageTest, AnyPageMayBeMissing) {
  synth::Scene scene = GetParam().second({.build = "10.0.19041.804"});
  const Outcome whole = analyse(scene.machine->dump());
  ASSERT_EQ(whole.cls, scene.verdict);
  const std::vector<Pfn> pages = scene.machine->memory().pages().all();
  for (const Pfn pfn : pages)
    expect_no_surer(whole, analyse(synth::without_page(*scene.machine, pfn)),
                    fmt::format("without page {:#x}", pfn.address().value()));
}

// Every pointer that the tool follows from list to list, bent to itself, to null, to nowhere, to another
// object.
TEST_P(DamageTest, AnyLinkMayPointAnywhere) {
  synth::Scene scene = GetParam().second({.build = "6.1.7601.24540"});
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
    for (u64 at = 0; at < 0x40; at += 8) links.push_back(o + at);
  for (const VirtAddr link : links)
    for (const VirtAddr value : {link, VirtAddr(), VirtAddr(0x4141414141414141), VirtAddr(0xfffff6fb7dbed000),
                                 links.front(), VirtAddr(m.system_process())}) {
      SCOPED_TRACE(fmt::format("{} -> {}", link, value));
      const Outcome o = analyse(synth::with_pointer(m, link, value));
      EXPECT_TRUE(o.opened);
    }
}

INSTANTIATE_TEST_SUITE_P(Scenes, DamageTest,
                         testing::Values(std::pair<const char*, Make>{"busy_owner", synth::busy_owner},
                                         std::pair<const char*, Make>{"deadlock", synth::deadlock},
                                         std::pair<const char*, Make>{"mixed_deadlock",
                                                                      synth::mixed_deadlock},
                                         std::pair<const char*, Make>{"io_stall", synth::io_stall},
                                         std::pair<const char*, Make>{"healthy", synth::healthy}),
                         [](const auto& i) { return std::string(i.param.first); });

}  // namespace
}  // namespace unhang
