// .thread [ADDRESS|TID]: choose the thread that `k`, `!thread` and user addresses refer to.
#include "app/cid.h"
#include "app/command.h"
#include "app/lines.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  for (const std::string& a : args) {
    if (a.starts_with('/')) continue;
    const nt::Thread t = TRY(nt::read_thread(session.target(), TRY(thread_of(session, a))));
    session.set_thread(t.address);
    session.set_process(is_kernel(t.attached_process) ? t.attached_process : t.process);
    break;
  }
  Node n = lines_node();
  add_line(n, fmt::format("Implicit thread is now {}", session.current_thread()));
  return n;
}

}  // namespace

extern const DebuggerCommand dot_thread_debugger_command;
const DebuggerCommand dot_thread_debugger_command{.names = {".thread"},
                                                  .usage = ".thread [ADDRESS|TID]",
                                                  .help = "the thread that later commands refer to",
                                                  .run = run};

}  // namespace unhang::app
