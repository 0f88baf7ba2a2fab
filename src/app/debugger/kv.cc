// kb, kv: with the four home words behind each return address. On x64 these are arguments only where a
// function saved them there.
#include "app/command.h"
#include "app/stack_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_stack(session, args, true);
}
}  // namespace

extern const DebuggerCommand kv_debugger_command;
const DebuggerCommand kv_debugger_command{.names = {"kv", "kb"},
                                          .usage = "kv [THREAD]",
                                          .help = "the same with the home words of each frame",
                                          .run = run};

}  // namespace unhang::app
