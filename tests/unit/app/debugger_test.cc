// What people type at debugger commands: Cid numbers, addresses of something else, names that are not there.
#include "app/command.h"
#include "report/text.h"
#include "synth/session.h"

namespace unhang {
namespace {

class DebuggerTest : public testing::Test {
 protected:
  void SetUp() override {
    m_.block(thread_, 6, {m_.add_event()}, 100, {"nt!KiSystemServiceCopyEnd"});
    session_ = synth::open_session(m_.dump());
    ASSERT_TRUE(session_);
  }
  std::string run(const std::string& line) {
    const auto node = app::run_line(*session_, line);
    if (!node) return "error: " + text(node.error());
    report::Text out(false);
    out.print(*node);
    return out.str();
  }
  static bool has(const std::string& s, const std::string& what) { return s.find(what) != s.npos; }

  synth::Machine m_{synth::MachineOptions{}};
  VirtAddr process_ = m_.add_process("svchost.exe", 1200);
  VirtAddr thread_ = m_.add_thread(process_, 1208);
  std::unique_ptr<app::Session> session_;
};

TEST_F(DebuggerTest, ThreadsAndProcessesByTheirCid) {
  const std::string thread = run(fmt::format("!thread {}", thread_));
  ASSERT_TRUE(has(thread, "Cid 04b0.04b8")) << thread;
  for (const char* line : {"!thread 4b8", "!thread 0n1208"}) EXPECT_EQ(run(line), thread) << line;
  EXPECT_EQ(run("k 4b8"), run(fmt::format("k {}", thread_)));
  const std::string process = run(fmt::format("!process {} 0", process_));
  for (const char* line : {"!process 4b0 0", "!process 0n1200 0", "!process svchost.exe 0"})
    EXPECT_EQ(run(line), process) << line;
  EXPECT_TRUE(has(run(".thread 4b8"), fmt::format("{}", thread_)));
  EXPECT_EQ(session_->current_process(), process_);
  EXPECT_TRUE(has(run(".process 4"), fmt::format("{}", m_.system_process())));
}

// Decimal numbers, which the report prints, are the usual mistake.
TEST_F(DebuggerTest, WhoIsNotThereIsAnError) {
  for (const char* line : {"!thread 1208", "k 1208", ".thread 1208", "!process 1200", ".process 1200",
                           "!handle 0 3 1200", "!alpc /lpp 1200"})
    EXPECT_TRUE(has(run(line), "error: no ") && has(run(line), "hexadecimal")) << line << run(line);
  EXPECT_TRUE(has(run("!process 0 0 nobody.exe"), "error: no process of that name"));
}

TEST_F(DebuggerTest, AnAddressOfSomethingElseIsAnError) {
  const std::string thread = fmt::format("{}", thread_), process = fmt::format("{}", process_);
  for (const std::string& line : {"!irp " + thread, "!process " + thread, "!thread " + process,
                                  "!fileobj " + thread, "!locks " + thread, ".thread " + process})
    EXPECT_TRUE(has(run(line), "error: ") && has(run(line), "implausible")) << line << "\n" << run(line);
}

TEST_F(DebuggerTest, NothingFoundIsSaid) {
  EXPECT_TRUE(has(run("x nt!Zzz*"), "No symbol of that name"));
  EXPECT_TRUE(has(run("dt nt!_NOPE"), "have this type"));
}

}  // namespace
}  // namespace unhang
