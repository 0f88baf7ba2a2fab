// dd address [Lcount]: 32-bit values.
#include "app/command.h"
#include "app/memory_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_memory(session, args, 4, Beside::nothing);
}
}  // namespace

extern const DebuggerCommand dd_debugger_command;
const DebuggerCommand dd_debugger_command{
    .names = {"dd"}, .usage = "dd ADDRESS [LCOUNT]", .help = "memory as 32-bit values", .run = run};

}  // namespace unhang::app
