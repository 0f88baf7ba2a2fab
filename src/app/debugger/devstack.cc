// !devstack address|name: the devices above and below one.
#include "app/command.h"
#include "app/lines.h"
#include "app/object_name.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs a device"});
  const VirtAddr device = TRY(object_by_name(session, args[0], {"\\Device\\"}));
  TRY(nt::read_device(session.target(), session.objects(), device));
  Node n = lines_node();
  n["device"] = device;
  Node head = Node::map();
  head["text"] = "  !DevObj           !DrvObj            !DevExt           ObjectName";
  n["lines"].add(std::move(head));
  for (const VirtAddr va : nt::device_stack(session.target(), device)) {
    const auto d = nt::read_device(session.target(), session.objects(), va);
    Node line = Node::map();
    line["address"] = va;
    line["driver"] = d ? d->driver_name : std::string();
    line["name"] = d ? d->name : std::string();
    line["extension"] = d ? d->extension : VirtAddr();
    line["text"] = fmt::format("{} {:016x}  {:<18} {:016x}  {}", va == device ? ">" : " ", va.value(),
                               d ? d->driver_name : "(unreadable)", d ? d->extension.value() : 0,
                               d ? d->name.substr(d->name.find_last_of('\\') + 1) : "");
    n["lines"].add(std::move(line));
  }
  return n;
}

}  // namespace

extern const DebuggerCommand devstack_debugger_command;
const DebuggerCommand devstack_debugger_command{.names = {"!devstack"},
                                                .usage = "!devstack ADDRESS|NAME",
                                                .help = "the stack that a device is in",
                                                .run = run};

}  // namespace unhang::app
