// .thread ADDRESS, .process ADDRESS|PID: choose what `k` and user addresses refer to.
#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Node line(std::string text) {
  Node n = lines_node();
  add_line(n, std::move(text));
  return n;
}

// One command under two names would need the name; each has its own function.
Result<Node> choose(Session& session, const std::vector<std::string>& args) {
  std::vector<std::string> words;
  for (const std::string& a : args)
    if (!a.starts_with('/')) words.push_back(a);
  if (words.empty()) return line(fmt::format("Implicit thread is now {}", session.current_thread()));
  VirtAddr va = TRY(evaluate(session, words[0]));
  // A small number is a process id, as !process takes it.
  for (const waits::ProcessNode& p : session.world().processes)
    if (!is_kernel(va) && p.process.pid == va.value()) va = p.process.address;
  if (nt::is_process(session.target(), va)) {
    session.set_process(va);
    return line(fmt::format("Implicit process is now {}", va));
  }
  const nt::Thread t = TRY(nt::read_thread(session.target(), va));
  session.set_thread(t.address);
  session.set_process(is_kernel(t.attached_process) ? t.attached_process : t.process);
  return line(fmt::format("Implicit thread is now {}", va));
}

}  // namespace

extern const DebuggerCommand context_debugger_command;
const DebuggerCommand context_debugger_command{
    .names = {".thread", ".process"},
    .usage = ".thread ADDRESS, .process ADDRESS|PID",
    .help = "choose the thread or process that later commands refer to",
    .run = choose};

}  // namespace unhang::app
