// !irp address.
#include "app/command.h"
#include "app/expression.h"
#include "app/views/view.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs the address of an IRP"});
  return irp_node(session, TRY(nt::read_irp(session.target(), TRY(evaluate(session, args[0])))));
}

}  // namespace

extern const DebuggerCommand irp_debugger_command;
const DebuggerCommand irp_debugger_command{.names = {"!irp"},
                                           .usage = "!irp ADDRESS",
                                           .help = "an I/O request with its stack locations",
                                           .run = run};

}  // namespace unhang::app
