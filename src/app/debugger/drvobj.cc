// !drvobj address|name.
#include "app/command.h"
#include "app/object_name.h"
#include "app/views/view.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs a driver"});
  return driver_node(
      session, TRY(nt::read_driver(session.target(),
                                   TRY(object_by_name(session, args[0], {"\\Driver\\", "\\FileSystem\\"})))));
}

}  // namespace

extern const DebuggerCommand drvobj_debugger_command;
const DebuggerCommand drvobj_debugger_command{.names = {"!drvobj"},
                                              .usage = "!drvobj ADDRESS|NAME",
                                              .help = "a driver: its devices and dispatch routines",
                                              .run = run};

}  // namespace unhang::app
