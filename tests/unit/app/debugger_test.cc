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
    m_.run(runner_, 1, {"nt!IopParseDevice"});
    m_.registers(1).gpr[dump::r12] = 0x1122334455667788;
    m_.registers(1).xmm.emplace().at(15) = {.low = 0x15, .high = 0x51};
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
  VirtAddr thread_ = m_.add_thread(process_, 1208), runner_ = m_.add_thread(process_, 1212);
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

TEST_F(DebuggerTest, AModulesNameIsItsBase) {
  const VirtAddr base = session_->target().kernel_base();
  EXPECT_EQ(run("dq nt L2"), run(fmt::format("dq {} L2", base)));
  EXPECT_EQ(run("dq nt+8 L1"), run(fmt::format("dq {} L1", base + 8)));
  for (const auto& m : session_->target().modules().all())
    EXPECT_EQ(run(fmt::format("dq {} L1", m->name())), run(fmt::format("dq {} L1", m->base()))) << m->name();
  EXPECT_TRUE(has(run("dq nosuchmodule L1"), "no symbol or module of that name"));
  EXPECT_TRUE(has(run("dq nt!NoSuchSymbol L1"), "no symbol of that module"));
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

TEST_F(DebuggerTest, RegistersOfTheProcessorThatAThreadRunsOn) {
  EXPECT_TRUE(has(run("~1s"), fmt::format("{}", runner_)));
  EXPECT_EQ(session_->current_thread(), runner_);
  const dump::CpuState& state = session_->target().cpus().at(1).state.value();
  const std::string all = run("r");
  for (const std::string& part :
       {fmt::format("Processor 1, thread {:016x} (from: CPU 1 of the dump)", runner_.value()),
        fmt::format("rip={:016x} rsp={:016x}", state.rip, state.gpr[dump::rsp]),
        std::string("r12=1122334455667788"), std::string("nt!IopParseDevice"),
        fmt::format("cr3={:016x}", state.cr3), fmt::format("gs_base={:016x}", state.gs.base),
        std::string("xmm15=0x00000000000000510000000000000015")})
    EXPECT_TRUE(has(all, part)) << part << "\n" << all;
  EXPECT_EQ(run("r r12"), "r12=1122334455667788\n");
  EXPECT_EQ(run("dq @rsp L2"), run(fmt::format("dq {:x} L2", state.gpr[dump::rsp])));
  EXPECT_EQ(run("? @r12"), run("? 1122334455667788"));
  // A dump has what its form holds; zero is not a way to say that it has not.
  EXPECT_TRUE(has(run("r lstar"), "not hold")) << run("r lstar");
  EXPECT_FALSE(has(all, "lstar"));
}

TEST_F(DebuggerTest, MemoryAsText) {
  // EPROCESS.ImageFileName of svchost.exe.
  const std::string name = run(fmt::format("dt nt!_EPROCESS {} ImageFileName", process_));
  const auto offset = name.find("+0x");
  ASSERT_NE(offset, name.npos) << name;
  const std::string at =
      fmt::format("{}+{}", process_, name.substr(offset + 1, name.find(' ', offset) - offset - 1));
  EXPECT_TRUE(has(run("da " + at), "  \"svchost.exe\"\n")) << run("da " + at);
  EXPECT_TRUE(has(run("da " + at + " L3"), "  \"svc\"\n")) << run("da " + at + " L3");
  EXPECT_TRUE(has(run("dc " + at + " L4"), "68637673 2e74736f 00657865 00000000  svchost.exe....."))
      << run("dc " + at + " L4");
  EXPECT_TRUE(has(run("du " + at + " L1"), fmt::format("\"{}\"", "\u7673"))) << run("du " + at + " L1");
  EXPECT_TRUE(has(run("du fffffffffffff000"), "error: "));
}

TEST_F(DebuggerTest, AThreadThatIsSwitchedOutHasSavedTwoRegisters) {
  run(fmt::format(".thread {}", thread_));
  const std::string all = run("r");
  EXPECT_TRUE(has(all, "not running")) << all;
  EXPECT_TRUE(has(all, "rsp=")) << all;
  EXPECT_FALSE(has(all, "rax=")) << all;
  EXPECT_TRUE(has(run("r rax"), "error: ")) << run("r rax");
  EXPECT_EQ(run("dq @rsp L1"), run(fmt::format("dq {} L1", run("r rsp").substr(4, 16))));
}

// One that is on no list, and one that has come back, which is none any more.
TEST_F(DebuggerTest, RequestsAnywhereInMemory) {
  const VirtAddr event = m_.add_event();
  const VirtAddr irp =
      m_.add_irp(thread_, {{.device = m_.port_device(), .major = 3}}, 9, event, /*listed=*/false);
  const VirtAddr done = m_.add_irp(runner_, {{.device = m_.port_device(), .major = 3}});
  m_.set(done, "_IRP", "CurrentLocation", 10);
  m_.set(done, "_IRP", "Tail.Overlay.CurrentStackLocation",
         (done + m_.size("_IRP") + 9 * m_.size("_IO_STACK_LOCATION")).value());
  session_ = synth::open_session(m_.dump());
  ASSERT_TRUE(session_);
  const std::string line = fmt::format("{:016x} Thread {:016x} current stack belongs to  \\Driver\\viostor",
                                       irp.value(), thread_.value());
  const std::string all = run("!irpfind");
  EXPECT_TRUE(has(all, line) && has(all, "1 IRP is pending in what the dump holds")) << all;
  EXPECT_TRUE(has(run(fmt::format("!irpfind 0 0 userevent {}", event)), line));
  EXPECT_FALSE(has(run(fmt::format("!irpfind 0 0 userevent {}", irp)), line));
  EXPECT_TRUE(has(run(fmt::format("!irpfind -v 0 0 device {}", m_.port_device())), "IRP_MJ_READ"));
  EXPECT_TRUE(has(run("!irpfind 0 0 color 1"), "error: "));
}

TEST_F(DebuggerTest, NothingFoundIsSaid) {
  for (const char* line : {"r foo", "dq @foo", "~9", "~"})
    EXPECT_TRUE(has(run(line), "error: ")) << line << run(line);
  EXPECT_TRUE(has(run("x nt!Zzz*"), "No symbol of that name"));
  EXPECT_TRUE(has(run("dt nt!_NOPE"), "have this type"));
}

}  // namespace
}  // namespace unhang
