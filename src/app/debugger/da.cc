// da address [Lcount]: 8-bit text up to its NUL.
#include "app/command.h"
#include "app/memory_command.h"

namespace unhang::app {

namespace {
Result<Node> run(Session& session, const std::vector<std::string>& args) {
  return show_text(session, args, 1);
}
}  // namespace

extern const DebuggerCommand da_debugger_command;
const DebuggerCommand da_debugger_command{
    .names = {"da"}, .usage = "da ADDRESS [LCOUNT]", .help = "memory as 8-bit text", .run = run};

}  // namespace unhang::app
