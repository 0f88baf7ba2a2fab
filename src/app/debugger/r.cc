// r [NAME...]: the registers of the current thread; ~N chooses a processor's.
#include "app/command.h"
#include "app/lines.h"
#include "app/registers.h"
#include "base/format.h"
#include "nt/objects/process.h"

namespace unhang::app {

namespace {

Result<Node> some(const ThreadRegisters& registers, const std::vector<std::string>& names) {
  Node n = lines_node();
  for (const std::string& word : names) {
    const std::string name = word.substr(word.starts_with('@') ? 1 : 0);
    const auto found = registers.find(name);
    if (!found) return fail(Error{.why = Why::unsupported, .detail = "no such register; `r` lists them"});
    const u64 value = TRY(*found);
    add_line(n, fmt::format("{}={:016x}", name, value))[name] = VirtAddr(value);
  }
  return n;
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  const ThreadRegisters registers = TRY(current_registers(session));
  if (!args.empty()) return some(registers, args);
  Node n = Node::shaped("registers");
  n["thread"] = session.current_thread();
  n["processor"] = registers.cpu != nullptr ? Node(registers.cpu->number) : Node();
  n["from"] = registers.cpu != nullptr ? registers.cpu->state_from : "switch frame";
  if (registers.cpu != nullptr) {
    n["registers"] = registers_node(*registers.cpu->state);
  } else {
    n["registers"]["rip"] = VirtAddr(registers.rip);
    n["registers"]["rsp"] = VirtAddr(registers.rsp);
  }
  const nt::Object process(session.target(), session.current_process());
  n["symbol"] = session.stacks().symbolize(
      VirtAddr(registers.rip), PhysAddr(process.value_or(nt::KPROCESS::DirectoryTableBase, 0)).page(),
      process.value_or(nt::EPROCESS::Peb, {}));
  return n;
}

}  // namespace

extern const DebuggerCommand r_debugger_command;
const DebuggerCommand r_debugger_command{.names = {"r"},
                                         .usage = "r [NAME...]",
                                         .help = "the registers of the current thread, or some of them",
                                         .run = run};

}  // namespace unhang::app
