// .process [ADDRESS|PID]: choose the process whose user addresses and handles later commands read.
#include "app/cid.h"
#include "app/command.h"
#include "app/lines.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  for (const std::string& a : args) {
    if (a.starts_with('/')) continue;
    const nt::Process p = TRY(nt::read_process(session.target(), TRY(process_of(session, a))));
    session.set_process(p.address);
    break;
  }
  Node n = lines_node();
  add_line(n, fmt::format("Implicit process is now {}", session.current_process()));
  return n;
}

}  // namespace

extern const DebuggerCommand dot_process_debugger_command;
const DebuggerCommand dot_process_debugger_command{.names = {".process"},
                                                   .usage = ".process [ADDRESS|PID]",
                                                   .help = "the process that later commands refer to",
                                                   .run = run};

}  // namespace unhang::app
