// k and its relatives: the stack of the current thread, or of the one given.
#include "app/command.h"
#include "app/stack_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_stack(session, args, false);
}
}  // namespace

extern const DebuggerCommand k_debugger_command;
const DebuggerCommand k_debugger_command{.names = {"k", "kn", "kP", "kc"},
                                         .usage = "k [THREAD]",
                                         .help = "the stack of the current thread, or of another",
                                         .run = run};

}  // namespace unhang::app
