// du address [Lcount]: UTF-16 text up to its NUL.
#include "app/command.h"
#include "app/memory_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_text(session, args, 2);
}
}  // namespace

extern const DebuggerCommand du_debugger_command;
const DebuggerCommand du_debugger_command{
    .names = {"du"}, .usage = "du ADDRESS [LCOUNT]", .help = "memory as UTF-16 text", .run = run};

}  // namespace unhang::app
