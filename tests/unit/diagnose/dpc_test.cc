// A processor in a deferred procedure: whatever thread it interrupted is not to blame, the idle thread least.
#include "app/command.h"
#include "base/format.h"
#include "diagnose/diagnose.h"
#include "synth/session.h"

namespace unhang {
namespace {

class DpcTest : public testing::Test {
 protected:
  DpcTest() : machine_({.processors = 1}) {
    const VirtAddr p = machine_.add_process("svchost.exe", 1200);
    // Due for 20 seconds, and ready for 30: nothing runs here.
    for (u64 i = 0; i < 4; i++) machine_.wait_for_timer(machine_.add_thread(p, 1204 + i * 4), 3000, 1500);
    machine_.make_ready(machine_.add_thread(p, 1300), 0, 2000);
  }
  VirtAddr idle() { return machine_.memory().get<VirtAddr>(machine_.kprcb(0) + 0x18); }
  diagnose::Diagnosis diagnosis() {
    session_ = synth::open_session(machine_.dump());
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  synth::Machine machine_;
  std::unique_ptr<app::Session> session_;
};

// An idle thread has no driver's code of its own: without nt's symbols that is all there is to see.
TEST_F(DpcTest, IdleThreadInADriver) {
  machine_.run(idle(), 0, {"netkvm!RxDpc", "nt!KiIdleLoop"});
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "cpu-spin") << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("a deferred procedure"), std::string::npos) << d.verdict.summary;
}

TEST_F(DpcTest, IdleThreadThatSpinsForADriver) {
  machine_.run(idle(), 0, {"nt!KeAcquireSpinLockRaiseToDpc", "netkvm!RxDpc", "nt!KiIdleLoop"});
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "cpu-spin") << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("a deferred procedure (DPC) of netkvm"), std::string::npos)
      << d.verdict.summary;
}

TEST_F(DpcTest, IdleThreadThatRests) {
  machine_.run(idle(), 0, {"intelppm!C1Halt", "nt!KiIdleLoop"});
  EXPECT_STREQ(diagnosis().verdict.cls, "starved-vm");
}

// The processor says so itself; the functions of the kernel on the stack have no names without symbols.
TEST_F(DpcTest, BlamesNoInterruptedThread) {
  const VirtAddr victim = machine_.add_thread(machine_.add_process("victim.exe", 2300), 2304);
  const synth::Labels stack{"nt!KeAcquireSpinLockRaiseToDpc", "netkvm!RxDpc", "nt!KiSystemServiceCopyEnd"};
  machine_.run(victim, 0, stack);
  EXPECT_EQ(diagnosis().verdict.summary.find("a deferred procedure"), std::string::npos);
  machine_.set(machine_.kprcb(0), "_KPRCB", "DpcRoutineActive", 1);
  const VirtAddr dpc = machine_.alloc(machine_.size("_KDPC"));
  machine_.set(dpc, "_KDPC", "DeferredRoutine", machine_.address_of("netkvm!RxDpc").value());
  machine_.set(machine_.kprcb(0) + machine_.offset("_KPRCB", "DpcData"), "_KDPC_DATA", "ActiveDpc",
               dpc.value());
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "cpu-spin") << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("a deferred procedure (DPC) of netkvm"), std::string::npos)
      << d.verdict.summary;
  EXPECT_EQ(d.verdict.summary.find("victim.exe"), std::string::npos) << d.verdict.summary;
  EXPECT_TRUE(std::any_of(d.findings[0].evidence.begin(), d.findings[0].evidence.end(),
                          [&](const diagnose::Evidence& e) {
                            return e.text.starts_with(fmt::format("the processor's active DPC is {}", dpc));
                          }));
}

// Windows 7 links the queue in a ring, later ones in a chain that ends.
class DpcQueueTest : public testing::TestWithParam<const char*> {};

TEST_P(DpcQueueTest, Listed) {
  synth::Machine m({.build = GetParam()});
  const bool ring = std::string_view(GetParam()).starts_with("6.1");
  const u32 entry = m.offset("_KDPC", "DpcListEntry");
  const VirtAddr threaded = m.kprcb(1) + m.offset("_KPRCB", "DpcData") + m.size("_KDPC_DATA"),
                 a = m.alloc(m.size("_KDPC")), b = m.alloc(m.size("_KDPC"));
  m.set(a, "_KDPC", "DeferredRoutine", m.address_of("netkvm!RxDpc").value());
  m.set(b, "_KDPC", "DeferredRoutine", m.address_of("nt!KiDivideErrorFault").value());
  m.memory().put(threaded, a + entry);
  m.memory().put(a + entry, b + entry);
  m.memory().put(b + entry, ring ? threaded : VirtAddr());
  m.set(threaded, "_KDPC_DATA", "DpcQueueDepth", 2);
  const auto session = synth::open_session(m.dump());
  ASSERT_NE(session, nullptr);
  const auto n = app::run_line(*session, "!dpcs");
  ASSERT_TRUE(n.has_value()) << text(n.error());
  const auto& lines = n->get("lines").items();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1].get("dpc").as_address(), a);
  EXPECT_EQ(lines[1].get("type").as_text(), "Threaded");
  EXPECT_EQ(lines[1].get("cpu").as_u64(), 1u);
  EXPECT_EQ(lines[2].get("dpc").as_address(), b);
  EXPECT_EQ(n->find("note"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Builds, DpcQueueTest,
                         testing::Values("6.1.7601.24540", "6.3.9600.19913", "10.0.19041.804"),
                         [](const auto& i) {
                           std::string s = i.param;
                           std::replace(s.begin(), s.end(), '.', '_');
                           return s;
                         });

}  // namespace
}  // namespace unhang
