// dq address [Lcount]: 64-bit values.
#include "app/command.h"
#include "app/memory_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_memory(session, args, 8, Beside::nothing);
}
}  // namespace

extern const DebuggerCommand dq_debugger_command;
const DebuggerCommand dq_debugger_command{
    .names = {"dq"}, .usage = "dq ADDRESS [LCOUNT]", .help = "memory as 64-bit values", .run = run};

}  // namespace unhang::app
