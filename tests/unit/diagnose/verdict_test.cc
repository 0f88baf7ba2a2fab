// What the verdict says where the obvious word would be wrong.
#include "diagnose/diagnose.h"
#include "report/text.h"
#include "synth/scene.h"
#include "synth/session.h"
#include "synth/user_side.h"

namespace unhang {
namespace {

class VerdictTest : public testing::Test {
 protected:
  diagnose::Diagnosis diagnosis() {
    session_ = synth::open_session(m_.dump());
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  static bool advises(const diagnose::Finding& f, std::string_view what) {
    return std::any_of(f.advice.begin(), f.advice.end(),
                       [&](const std::string& a) { return a.find(what) != a.npos; });
  }
  synth::Machine m_{synth::MachineOptions{}};
  VirtAddr process_ = m_.add_process("svchost.exe", 1200);
  std::unique_ptr<app::Session> session_;
};

// Ready for long is not busy: it needs a processor, not a profile.
TEST_F(VerdictTest, ReadyOwnerGetsNoProcessor) {
  const VirtAddr owner = m_.add_thread(process_, 1204), r = m_.add_resource();
  m_.own_exclusive(r, owner);
  m_.set(owner, "_KTHREAD", "Priority", 4);
  m_.make_ready(owner, 0, 1000);
  for (u64 i = 0; i < 3; i++) m_.wait_for_resource(m_.add_thread(process_, 1300 + i * 4), r, true, 900);
  const VirtAddr hog = m_.add_thread(m_.add_process("hog.exe", 3000), 3004);
  m_.set(hog, "_KTHREAD", "Priority", 15);
  m_.run(hog, 0, {"nt!KiSystemServiceCopyEnd"}, 2000);
  const diagnose::Diagnosis d = diagnosis();
  ASSERT_TRUE(d.verdict.finding.has_value()) << d.verdict.summary;
  EXPECT_STREQ(d.verdict.cls, "busy-owner");
  const diagnose::Finding& f = d.findings[*d.verdict.finding];
  EXPECT_EQ(f.culprit.thread, owner);
  EXPECT_NE(f.title.find("Ready for 15.6 s at priority 4 and gets no processor"), std::string::npos)
      << f.title;
  EXPECT_FALSE(advises(f, "profile it"));
  EXPECT_TRUE(std::any_of(f.evidence.begin(), f.evidence.end(), [](const diagnose::Evidence& e) {
    return e.text.find("CPU 0 runs hog.exe 3000.3004 (priority 15)") != std::string::npos;
  }));
}

// A wait for a resource begins anew every four seconds: how long it lasts is told by whom it waits for. Who
// shows less than the first round of half a second may just have come.
TEST_F(VerdictTest, WaitsForResourcesAreOlderThanTheyShow) {
  for (const u32 ticks : {100u, 20u}) {
    m_ = synth::Machine{synth::MachineOptions{}};
    process_ = m_.add_process("svchost.exe", 1200);
    const VirtAddr owner = m_.add_thread(process_, 1204), r = m_.add_resource();
    m_.own_exclusive(r, owner);
    m_.block(owner, 0, {m_.add_event()}, 8000, {"nt!KiSystemServiceCopyEnd"});
    m_.wait_for_resource(m_.add_thread(process_, 1300), r, true, ticks);
    const diagnose::Diagnosis d = diagnosis();
    EXPECT_STREQ(d.verdict.cls, ticks == 100 ? "unknown" : "no-hang") << d.verdict.summary;
    if (ticks != 100) continue;
    ASSERT_FALSE(d.findings.empty());
    EXPECT_EQ(d.findings[0].longest_ms, 125'000u);
    EXPECT_TRUE(std::ranges::any_of(d.findings[0].evidence, [](const diagnose::Evidence& e) {
      return e.text.starts_with("a wait for a resource begins anew every four seconds");
    }));
  }
}

// One program may wait for another one's mutex or answer for hours; logon does not, nor do those whom the
// user names.
TEST_F(VerdictTest, LogonIsNotPatient) {
  for (const char* name : {"winlogon.exe", "app.exe"}) {
    m_ = synth::Machine{synth::MachineOptions{}};
    const VirtAddr owner = m_.add_thread(m_.add_process("credprov.exe", 4096), 4264);
    m_.wait_for_mutant(m_.add_thread(m_.add_process(name, 560), 564), m_.add_mutant(owner), 3840);
    m_.run(owner, 1, {"nt!KiSystemServiceCopyEnd"});
    EXPECT_STREQ(diagnosis().verdict.cls, name[0] == 'w' ? "busy-owner" : "no-hang") << name;
  }
  for (const size_t clients : {1u, 2u}) {
    m_ = synth::Machine{synth::MachineOptions{}};
    const VirtAddr server = m_.add_process("rpcsvc.exe", 6656), s = m_.add_thread(server, 6660),
                   port = m_.add_alpc_port(server, "\\RPC Control\\rpcsvc");
    m_.block(s, 6, {m_.add_event()}, 4000, {"nt!KiSystemServiceCopyEnd"});
    VirtAddr client;
    for (size_t i = 0; i < clients; i++) {
      client = m_.add_thread(m_.add_process(i == 0 ? "winlogon.exe" : "LogonUI.exe", 560 + i * 100),
                             564 + i * 100);
      m_.wait_for_reply(client, port, s, 3800);
    }
    const diagnose::Diagnosis d = diagnosis();
    EXPECT_STREQ(d.verdict.cls, clients == 2 ? "unknown" : "no-hang") << d.verdict.summary;
    const diagnose::Diagnosis named = diagnose::diagnose(session_->world(), {.entry_threads = {client}});
    EXPECT_STREQ(named.verdict.cls, "unknown") << named.verdict.summary;
    EXPECT_NE(named.verdict.summary.find("rpcsvc.exe 6656.6660 must answer"), std::string::npos)
        << named.verdict.summary;
  }
}

// Waits are over, but its stack must come from the page file first.
TEST_F(VerdictTest, AnOwnerThatIsSwappedOutIsNamed) {
  constexpr u64 kTransition = 6;
  const VirtAddr owner = m_.add_thread(process_, 1204), r = m_.add_resource();
  m_.own_exclusive(r, owner);
  m_.set(owner, "_KTHREAD", "State", kTransition);
  for (u64 i = 0; i < 3; i++) m_.wait_for_resource(m_.add_thread(process_, 1300 + i * 4), r, true, 200);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "unknown") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, owner);
}

// A third party's filter under a request for a file: that one is named, and no directory is counted.
TEST_F(VerdictTest, TheFilterThatTheOwnerIsIn) {
  const VirtAddr owner = m_.add_thread(m_.add_process("indexer.exe", 4352), 4268), r = m_.add_resource(),
                 file = m_.add_file("\\Users\\Public\\db", m_.add_fcb(r));
  m_.add_module("acmeflt.sys", {"AcmePreWrite"});
  m_.own_exclusive(r, owner);
  m_.add_irp(owner, {{.device = m_.ntfs_device(), .major = 4, .file = file}});
  m_.run(owner, 1, {"acmeflt!AcmePreWrite", "nt!IofCallDriver", "nt!KiSystemServiceCopyEnd"});
  for (u64 i = 0; i < 3; i++) m_.wait_for_resource(m_.add_thread(process_, 1300 + i * 4), r, true, 200);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "busy-owner") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.driver, "acmeflt");
  EXPECT_TRUE(d.findings[0].culprit.directory.empty());
  EXPECT_TRUE(advises(d.findings[0], "It is in acmeflt"));
}

// Advice to look for live kernel reports is for those who have them.
TEST(Advice, LiveKernelReportsOnlyWhereTheyAreWritten) {
  for (const auto& [build, has] : {std::pair{"6.1.7601.24540", false}, {"10.0.19041.804", true}})
    for (const auto make : {synth::deadlock, synth::worker_exhaustion}) {
      const auto session = synth::open_session(make({.build = build}).machine->dump());
      ASSERT_TRUE(session);
      const diagnose::Diagnosis d = diagnose::diagnose(session->world(), {});
      ASSERT_TRUE(d.verdict.finding.has_value()) << build << d.verdict.summary;
      const auto& advice = d.findings[*d.verdict.finding].advice;
      EXPECT_EQ(has, std::any_of(advice.begin(), advice.end(),
                                 [](const std::string& a) { return a.find("LiveKernelReports") != a.npos; }))
          << build << " " << d.verdict.cls;
    }
}

// A push lock whose address nothing tells: that nobody can be named is no clean bill of health.
TEST_F(VerdictTest, LongWaitForALockIsNoHealth) {
  constexpr u8 kWrPushLock = 28;
  m_.block(m_.add_thread(process_, 1204), kWrPushLock, {m_.add_event()}, 20'000,
           {"nt!KiSystemServiceCopyEnd"});
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "unknown") << d.verdict.summary;
  EXPECT_NE(d.verdict.summary.find("svchost.exe 1200.1204 has waited 5 min"), std::string::npos)
      << d.verdict.summary;
  EXPECT_TRUE(std::any_of(session_->world().gaps.begin(), session_->world().gaps.end(),
                          [](const Gap& g) { return g.what == "push lock"; }));
}

TEST_F(VerdictTest, ShortWaitForALockIsOrdinary) {
  constexpr u8 kWrPushLock = 28;
  m_.block(m_.add_thread(process_, 1204), kWrPushLock, {m_.add_event()}, 5, {"nt!KiSystemServiceCopyEnd"});
  EXPECT_STREQ(diagnosis().verdict.cls, "no-hang");
}

// A circle through the loader lock: the DLL's maker must know of DllMain. No resource, no report about one.
TEST_F(VerdictTest, LoaderLockInACircle) {
  synth::UserSide user(m_, process_);
  const VirtAddr a = m_.add_thread(process_, 1204), b = m_.add_thread(process_, 1208);
  const VirtAddr loader_lock = m_.add_critical_section(a), other = m_.add_critical_section(b);
  user.put(m_.get(process_, "_EPROCESS", "Peb") + m_.offset("_PEB", "LoaderLock"), loader_lock);
  m_.wait_for_critical_section(a, other, 9000);
  m_.wait_for_critical_section(b, loader_lock, 8900);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "deadlock") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_TRUE(advises(d.findings[0], "DllMain"));
  EXPECT_FALSE(advises(d.findings[0], "EXRESOURCE_TIMEOUT"));
}

// A shared lock is let go when the last owner does: one owner is named, the others are counted.
TEST_F(VerdictTest, SharedOwnersAreCounted) {
  const VirtAddr a = m_.add_thread(process_, 1204), b = m_.add_thread(process_, 1208), r = m_.add_resource();
  m_.own_shared(r, {a, b});
  m_.suspend(a, 5000, {"nt!KiSystemServiceCopyEnd"});
  m_.block(b, 6, {m_.add_event()}, 10, {"nt!KiSystemServiceCopyEnd"});
  m_.wait_for_resource(m_.add_thread(process_, 1300), r, true, 900);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "suspended-owner") << d.verdict.summary;
  report::Text out(false);
  out.print(app::analysis_node(*session_, d, {}));
  EXPECT_NE(out.str().find("held shared by svchost.exe 1200.1204  (Waiting) and by 1 more thread"),
            std::string::npos)
      << out.str();
}

}  // namespace
}  // namespace unhang
