// Events that somebody else has open: who could signal them.
#include "synth/session.h"

namespace unhang {
namespace {

TEST(SharedObject, OtherProcessesAreNamed) {
  synth::Machine m{synth::MachineOptions{}};
  const VirtAddr winlogon = m.add_process("winlogon.exe", 640, 1), lsm = m.add_process("lsm.exe", 700),
                 other = m.add_process("other.exe", 800);
  const VirtAddr shared = m.add_event(), own = m.add_event(), waiter = m.add_thread(winlogon, 644),
                 alone = m.add_thread(other, 804);
  m.add_handle(winlogon, shared);
  m.add_handle(lsm, shared);
  m.add_handle(other, own);
  m.block(waiter, 6, {shared}, 1000, {"nt!KiSystemServiceCopyEnd"});
  m.block(alone, 6, {own}, 1000, {"nt!KiSystemServiceCopyEnd"});
  const auto session = synth::open_session(m.dump());
  ASSERT_NE(session, nullptr);
  const waits::ThreadNode* t = session->world().thread(waiter);
  ASSERT_EQ(t->waits.size(), 1u);
  EXPECT_TRUE(t->waits[0].detail.ends_with("; open also in lsm.exe (700)")) << t->waits[0].detail;
  EXPECT_EQ(session->world().thread(alone)->waits[0].detail.find("open also"), std::string::npos);
}

}  // namespace
}  // namespace unhang
