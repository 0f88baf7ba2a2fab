// A plain spin lock names no owner: the processor that keeps its address may be the one.
#include "base/format.h"
#include "diagnose/diagnose.h"
#include "synth/session.h"

namespace unhang {
namespace {

constexpr u64 kInterruptFlag = 1 << 9;

class SpinLockTest : public testing::Test {
 protected:
  SpinLockTest() : machine_({.processors = 2}) {
    lock_ = machine_.alloc(8);
    machine_.memory().put<u64>(lock_, 1);
    victim_ = machine_.add_thread(machine_.add_process("victim.exe", 2300), 2304);
    holder_ = machine_.add_thread(machine_.system_process(), 120);
    machine_.run(victim_, 1,
                 {"nt!KeAcquireSpinLockAtDpcLevel", "netkvm!RxDpc", "nt!KiExecuteAllDpcs",
                  "nt!KiRetireDpcList", "nt!KiInterruptDispatch", "nt!PspSystemThreadStartup"});
    machine_.registers(1).gpr[dump::rcx] = lock_.value();
    machine_.make_ready(machine_.add_thread(machine_.system_process(), 124), 1, 200);
  }
  void run_holder() {
    machine_.run(holder_, 0, {"avfilter!FlushTable", "avfilter!Worker", "nt!PspSystemThreadStartup"}, 800);
  }
  diagnose::Diagnosis diagnosis() {
    session_ = synth::open_session(machine_.dump());
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  // What is said of the processor that spins.
  static const diagnose::Finding* spins(const diagnose::Diagnosis& d) {
    for (const diagnose::Finding& f : d.findings)
      if (f.title.starts_with("CPU 1 spins")) return &f;
    ADD_FAILURE() << d.verdict.summary;
    return nullptr;
  }
  synth::Machine machine_;
  VirtAddr lock_, victim_, holder_;
  std::unique_ptr<app::Session> session_;
};

TEST_F(SpinLockTest, AddressInARegister) {
  run_holder();
  machine_.registers(0).gpr[dump::rbx] = lock_.value();
  const diagnose::Diagnosis d = diagnosis();
  const diagnose::Finding* f = spins(d);
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->culprit.thread, holder_);
  EXPECT_EQ(f->culprit.driver, "avfilter");
  EXPECT_EQ(f->confidence, Confidence::heuristic);
  EXPECT_TRUE(std::any_of(f->evidence.begin(), f->evidence.end(), [&](const diagnose::Evidence& e) {
    return e.text.starts_with(fmt::format("the lock is {}: CPU 0 has the lock's address in rbx", lock_));
  }));
}

TEST_F(SpinLockTest, AddressOnAStack) {
  machine_.keep_on_stack(holder_, lock_.value());
  run_holder();
  const diagnose::Diagnosis d = diagnosis();
  const diagnose::Finding* f = spins(d);
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->culprit.thread, holder_);
}

// Every machine spins for an instant.
TEST_F(SpinLockTest, WithoutVictimsItIsAnInstant) {
  machine_ = synth::Machine({.processors = 2});
  victim_ = machine_.add_thread(machine_.add_process("victim.exe", 2300), 2304);
  machine_.run(victim_, 1, {"nt!KeAcquireSpinLockAtDpcLevel", "netkvm!RxDpc", "nt!KiSystemServiceCopyEnd"},
               1);
  EXPECT_TRUE(diagnosis().findings.empty());
}

// Below DISPATCH_LEVEL nobody has a spin lock, unless his interrupts are off.
TEST_F(SpinLockTest, LevelSaysNo) {
  run_holder();
  machine_.registers(0).gpr[dump::rbx] = lock_.value();
  machine_.registers(0).cr8 = 0;
  machine_.registers(0).rflags |= kInterruptFlag;
  const diagnose::Diagnosis d = diagnosis();
  const diagnose::Finding* f = spins(d);
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->culprit.driver, "netkvm");
  EXPECT_NE(f->title.find("who has it is not known"), std::string::npos) << f->title;
  machine_.registers(0).rflags &= ~kInterruptFlag;
  const diagnose::Diagnosis off = diagnosis();
  f = spins(off);
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->culprit.driver, "avfilter");
}

}  // namespace
}  // namespace unhang
