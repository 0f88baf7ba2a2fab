// !qlocks: the numbered queued spin locks of the kernel, and the processors that have them or wait.
#include "app/command.h"
#include "app/lines.h"
#include "app/views/view.h"
#include "base/format.h"
#include "nt/objects/queued_lock.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>&) {
  const std::vector<nt::NumberedLock> locks = TRY(nt::read_numbered_locks(session.target()));
  Node n = lines_node();
  const auto add = [&](std::string s) -> Node& { return add_line(n, std::move(s)); };
  add("Key: O = Owner, 1-n = Wait order, blank = not owned/waiting, C = Corrupt");
  add("");
  add("                       Processor Number");
  std::string head = "    Lock Name         ";
  for (const nt::Cpu& cpu : session.target().cpus()) head += fmt::format("{:<3}", cpu.number);
  add(head);
  add("");
  for (const nt::NumberedLock& l : locks) {
    std::string row = fmt::format("{:<22}", l.title);
    for (const nt::Cpu& cpu : session.target().cpus()) {
      const auto waits = std::find(l.waiters.begin(), l.waiters.end(), cpu.number);
      std::string cell;
      if (l.owner == cpu.number)
        cell = "O";
      else if (waits != l.waiters.end())
        cell = l.owner ? fmt::format("{}", waits - l.waiters.begin() + 1) : "C";
      row += fmt::format("{:<3}", cell);
    }
    Node& line = add(row);
    line["lock"] = l.lock;
    line["owner"] = l.owner ? Node(*l.owner) : Node();
    line["waiters"] = Node::list();
    for (const u32 cpu : l.waiters) line["waiters"].add(Node(cpu));
  }
  return n;
}

}  // namespace

extern const DebuggerCommand qlocks_debugger_command;
const DebuggerCommand qlocks_debugger_command{
    .names = {"!qlocks"},
    .usage = "!qlocks",
    .help = "queued spin locks: the processors that have them or wait",
    .run = run};

}  // namespace unhang::app
