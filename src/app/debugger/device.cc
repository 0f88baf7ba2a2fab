// !devobj address|name.
#include "app/command.h"
#include "app/object_name.h"
#include "app/views/view.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs a device"});
  return device_node(session, TRY(nt::read_device(session.target(), session.objects(),
                                                  TRY(object_by_name(session, args[0], {"\\Device\\"})))));
}

}  // namespace

extern const DebuggerCommand device_debugger_command;
const DebuggerCommand device_debugger_command{
    .names = {"!devobj"}, .usage = "!devobj ADDRESS|NAME", .help = "a device object", .run = run};

}  // namespace unhang::app
