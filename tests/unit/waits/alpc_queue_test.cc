// Messages that lie in a server's queue: who could take them is held up, free, or not known.
#include "diagnose/diagnose.h"
#include "synth/session.h"

namespace unhang {
namespace {

constexpr u8 kUserRequest = 6, kWrLpcReceive = 16;

class AlpcQueueTest : public testing::Test {
 protected:
  AlpcQueueTest() {
    client_ = m_.add_thread(m_.add_process("explorer.exe", 1784, 1), 1788);
    holder_ = m_.add_thread(m_.add_process("MsMpEng.exe", 2900), 2904);
    server_ = m_.add_process("lsass.exe", 620);
    lock_ = m_.add_resource();
    m_.own_exclusive(lock_, holder_);
    port_ = m_.add_alpc_port(server_, "\\RPC Control\\lsasspirpc");
    // One that waits for something else, as a service's main thread does.
    m_.block(m_.add_thread(server_, 624), kUserRequest, {m_.add_event()}, 1'000'000,
             {"nt!KiSystemServiceCopyEnd"});
    for (u64 i = 0; i < 2; i++) stuck_.push_back(m_.add_thread(server_, 700 + i * 4));
  }
  void hold_up() {
    for (const VirtAddr t : stuck_)
      m_.wait_for_resource(t, lock_, true, 6400, {"nt!NtCreateFile", "nt!KiSystemServiceCopyEnd"});
  }
  diagnose::Diagnosis diagnosis(std::vector<VirtAddr> entry = {}) {
    session_ = synth::open_session(m_.dump());
    diagnose::Options o;
    o.entry_threads = std::move(entry);
    return session_ ? diagnose::diagnose(session_->world(), o) : diagnose::Diagnosis{};
  }
  std::vector<const waits::Edge*> edges() {
    std::vector<const waits::Edge*> out;
    for (const waits::Edge& e : session_->world().edges)
      if (e.from == client_) out.push_back(&e);
    return out;
  }
  synth::Machine m_{synth::MachineOptions{}};
  VirtAddr client_, holder_, server_, lock_, port_;
  std::vector<VirtAddr> stuck_;
  std::unique_ptr<app::Session> session_;
};

TEST_F(AlpcQueueTest, EveryThreadIsHeldUp) {
  hold_up();
  m_.suspend(holder_, 7000, {"nt!KiSystemServiceCopyEnd"});
  m_.wait_for_reply(client_, port_, {}, 6000);
  const diagnose::Diagnosis d = diagnosis({client_});
  EXPECT_STREQ(d.verdict.cls, "suspended-owner") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, holder_);
  EXPECT_EQ(d.findings[0].waiting.size(), 3u);
  EXPECT_TRUE(d.findings[0].on_symptom) << "the client waits behind it";
  EXPECT_EQ(d.findings[0].confidence, Confidence::heuristic);
  for (const waits::Edge* e : edges()) {
    EXPECT_TRUE(e->any_of);
    EXPECT_TRUE(e->to == stuck_[0] || e->to == stuck_[1]) << "not the one that waits for an event";
  }
  EXPECT_EQ(edges().size(), 2u);
}

// The holder of what the server's threads want waits for the server.
TEST_F(AlpcQueueTest, CycleThroughTheQueue) {
  hold_up();
  m_.wait_for_reply(holder_, port_, {}, 6000);
  m_.block(client_, kUserRequest, {m_.add_event()}, 10, {"nt!KiSystemServiceCopyEnd"});
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "deadlock") << d.verdict.summary;
  EXPECT_EQ(d.verdict.confidence, Confidence::heuristic);
}

// A thread that waits for messages will take it.
TEST_F(AlpcQueueTest, OneIsFree) {
  hold_up();
  m_.suspend(holder_, 7000, {"nt!KiSystemServiceCopyEnd"});
  m_.block(m_.add_thread(server_, 720), kWrLpcReceive, {m_.add_event()}, 100, {"nt!KiSystemServiceCopyEnd"});
  m_.wait_for_reply(client_, port_, {}, 6000);
  diagnosis();
  ASSERT_EQ(edges().size(), 1u);
  EXPECT_TRUE(edges()[0]->to.is_null());
  EXPECT_FALSE(edges()[0]->candidates.empty());
}

}  // namespace
}  // namespace unhang
