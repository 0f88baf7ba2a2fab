// !object address|path.
#include "app/command.h"
#include "app/lines.h"
#include "app/object_name.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty())
    return fail(Error{.why = Why::unsupported, .detail = "it needs the address or the path of an object"});
  const VirtAddr va = TRY(object_by_name(session, args[0], {"\\"}));
  const nt::ObjectInfo info = TRY(session.objects().info(va));
  Node n = lines_node();
  n["address"] = va;
  n["type"] = info.type;
  n["header"] = info.header;
  n["handle_count"] = info.handle_count;
  n["pointer_count"] = info.pointer_count;
  n["name"] = info.name;
  n["path"] = session.objects().path(va);
  const auto add = [&](std::string s) -> Node& { return add_line(n, std::move(s)); };
  add(fmt::format("Object: {:016x}  Type: {}", va.value(), info.type.empty() ? "(unknown)" : info.type));
  add(fmt::format("    ObjectHeader: {:016x}", info.header.value()));
  add(fmt::format("    HandleCount: {}  PointerCount: {}", info.handle_count, info.pointer_count));
  if (!info.name.empty())
    add(fmt::format("    Directory Object: {:016x}  Name: {}", info.directory.value(), info.name));
  if (info.type == "SymbolicLink")
    if (const auto target = session.objects().link_target(va))
      add(fmt::format("    Target String is '{}'", *target));
  if (info.type != "Directory") return n;
  const auto entries = session.objects().directory(va);
  if (!entries) return n;
  add("");
  add("    Address           Type            Name");
  for (const auto& [name, object] : *entries) {
    const auto i = session.objects().info(object);
    add(fmt::format("    {:016x}  {:<15} {}", object.value(), i ? i->type : "", name));
  }
  return n;
}

}  // namespace

extern const DebuggerCommand object_debugger_command;
const DebuggerCommand object_debugger_command{.names = {"!object"},
                                              .usage = "!object ADDRESS|PATH",
                                              .help = "an object: type, counts, name; a directory's entries",
                                              .run = run};

}  // namespace unhang::app
