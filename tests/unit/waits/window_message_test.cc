// A thread that waits for the answer to a window message: it looks like one that waits for messages to come.
#include "diagnose/diagnose.h"
#include "synth/image.h"
#include "synth/session.h"
#include "synth/user_side.h"

namespace unhang {
namespace {

using synth::UserSide;

constexpr u8 kUserRequest = 6, kWrUserRequest = 13;
constexpr VirtAddr kWin32u(0x7ffe'00000000);

class WindowMessage : public testing::TestWithParam<const char*> {
 protected:
  WindowMessage() : machine_({.build = GetParam()}) {
    explorer_ = machine_.add_process("explorer.exe", 1784, 1);
    sender_ = window_thread(explorer_, 1788);
    machine_.block(sender_, kWrUserRequest, {machine_.add_event()}, 1000, kInKernel);
  }
  VirtAddr window_thread(VirtAddr process, u64 tid) {
    const VirtAddr t = machine_.add_thread(process, tid);
    machine_.set(t, "_KTHREAD", "Win32Thread", 0xfffff900'c0100000 + tid);
    return t;
  }
  // The sender's user stack: `inner` called by `outer`.
  void came_from(const std::string& inner, const std::string& outer) {
    UserSide user(machine_, explorer_);
    synth::ImageBuilder win32u("win32u.dll", {});
    const synth::Function in = win32u.add_function(inner), out = win32u.add_function(outer);
    user.add_module("win32u.dll", kWin32u, win32u.build());
    user.give_stacks(sender_);
    const u64 sp = UserSide::kStackBase - 0x400;
    user.put(sp + 0x28, (kWin32u + out.call_site).value());
    user.enter_from(sender_, (kWin32u + in.call_site).value(), sp, 0);
  }
  void open() {
    session_ = synth::open_session(machine_.dump());
    ASSERT_NE(session_, nullptr);
  }
  const waits::Edge* edge() {
    for (const waits::Edge& e : session_->world().edges)
      if (e.from == sender_) return &e;
    return nullptr;
  }

  static inline const synth::Labels kInKernel = {"nt!KeWaitForSingleObject", "win32kfull!xxxRealSleepThread",
                                                 "nt!KiSystemServiceCopyEnd"};
  synth::Machine machine_;
  VirtAddr explorer_, sender_;
  std::unique_ptr<app::Session> session_;
};

TEST_P(WindowMessage, CandidatesTakeNoMessages) {
  came_from("NtUserMessageCall", "SendMessageW");
  const VirtAddr hung = machine_.add_process("hung.exe", 3000, 1),
                 other = machine_.add_process("far.exe", 3100, 2);
  for (const VirtAddr p : {hung, other}) UserSide(machine_, p);  // a PEB each
  const VirtAddr stuck = window_thread(hung, 3004), holder = machine_.add_thread(hung, 3008);
  const VirtAddr r = machine_.add_resource();
  machine_.own_exclusive(r, holder);
  machine_.block(holder, kUserRequest, {machine_.add_event()}, 900, {"nt!KiSystemServiceCopyEnd"});
  machine_.wait_for_resource(stuck, r, true, 900, {"nt!NtCreateFile", "nt!KiSystemServiceCopyEnd"});
  // One that takes messages, one without windows, one of another session.
  machine_.block(window_thread(hung, 3012), kWrUserRequest, {machine_.add_event()}, 5000, kInKernel);
  machine_.wait_for_resource(machine_.add_thread(hung, 3016), r, true, 900);
  machine_.wait_for_resource(window_thread(other, 3104), r, true, 900);
  open();
  const waits::Edge* e = edge();
  ASSERT_NE(e, nullptr);
  EXPECT_STREQ(e->kind, "window message");
  EXPECT_TRUE(e->to.is_null()) << "nobody can be named for sure";
  ASSERT_EQ(e->candidates.size(), 1u);
  EXPECT_EQ(e->candidates[0].thread, stuck);
  EXPECT_EQ(e->candidates[0].why, "a thread with windows that waits for a ERESOURCE");
  EXPECT_EQ(session_->world().thread(sender_)->nature(), waits::WaitNature::request);
}

TEST_P(WindowMessage, ThatNobodyAnswersIsNotNothing) {
  came_from("NtUserMessageCall", "SendMessageW");
  const VirtAddr hung = machine_.add_process("hung.exe", 3000, 1), stuck = window_thread(hung, 3004);
  machine_.block(stuck, kUserRequest, {machine_.add_event()}, 2000, {"nt!KiSystemServiceCopyEnd"});
  open();
  const diagnose::Diagnosis d = diagnose::diagnose(session_->world(), {});
  EXPECT_STREQ(d.verdict.cls, "unknown") << d.verdict.summary;
  ASSERT_TRUE(d.verdict.finding.has_value());
  EXPECT_EQ(d.findings[*d.verdict.finding].culprit.thread, stuck) << d.verdict.summary;
}

// The same call farther out: it led to a window procedure, and that waits for messages.
TEST_P(WindowMessage, ToComeIsIdle) {
  came_from("NtUserGetMessage", "NtUserMessageCall");
  open();
  EXPECT_EQ(edge(), nullptr);
  EXPECT_EQ(session_->world().thread(sender_)->nature(), waits::WaitNature::idle);
  EXPECT_STREQ(diagnose::diagnose(session_->world(), {}).verdict.cls, "no-hang");
}

INSTANTIATE_TEST_SUITE_P(Builds, WindowMessage,
                         testing::Values("10.0.14393.4583", "10.0.19041.804", "10.0.22631.2428"),
                         [](const auto& i) {
                           std::string s = i.param;
                           std::replace(s.begin(), s.end(), '.', '_');
                           return s;
                         });

}  // namespace
}  // namespace unhang
