// dc address [Lcount]: 32-bit values with their characters.
#include "app/command.h"
#include "app/memory_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_memory(session, args, 4, Beside::characters);
}
}  // namespace

extern const DebuggerCommand dc_debugger_command;
const DebuggerCommand dc_debugger_command{.names = {"dc"},
                                          .usage = "dc ADDRESS [LCOUNT]",
                                          .help = "memory as 32-bit values and characters",
                                          .run = run};

}  // namespace unhang::app
