// db address [Lcount]: bytes and characters.
#include "app/command.h"
#include "app/memory_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_memory(session, args, 1, Beside::characters);
}
}  // namespace

extern const DebuggerCommand db_debugger_command;
const DebuggerCommand db_debugger_command{
    .names = {"db"}, .usage = "db ADDRESS [LCOUNT]", .help = "memory as bytes and characters", .run = run};

}  // namespace unhang::app
