// dps address [Lcount]: pointers with the symbols they point to.
#include "app/command.h"
#include "app/memory_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_memory(session, args, 8, Beside::symbols);
}
}  // namespace

extern const DebuggerCommand dps_debugger_command;
const DebuggerCommand dps_debugger_command{.names = {"dps", "dqs"},
                                           .usage = "dps ADDRESS [LCOUNT]",
                                           .help = "memory as pointers with the symbols they point to",
                                           .run = run};

}  // namespace unhang::app
