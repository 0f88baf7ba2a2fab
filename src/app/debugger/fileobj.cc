// !fileobj address.
#include "app/command.h"
#include "app/expression.h"
#include "app/views/view.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty())
    return fail(Error{.why = Why::unsupported, .detail = "it needs the address of a file object"});
  return file_node(session, TRY(nt::read_file_object(session.target(), session.objects(),
                                                     TRY(evaluate(session, args[0])))));
}

}  // namespace

extern const DebuggerCommand fileobj_debugger_command;
const DebuggerCommand fileobj_debugger_command{.names = {"!fileobj"},
                                               .usage = "!fileobj ADDRESS",
                                               .help = "an open file: path, volume, access, cache",
                                               .run = run};

}  // namespace unhang::app
