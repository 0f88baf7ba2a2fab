// !handle [handle [flags [process]]]: handles of a process.
#include "app/cid.h"
#include "app/command.h"
#include "app/expression.h"
#include "app/table.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  const u64 wanted = args.empty() ? 0 : TRY(evaluate(session, args[0])).value();
  VirtAddr process = session.current_process();
  if (args.size() > 2) process = TRY(process_of(session, args[2]));
  const nt::Process p = TRY(nt::read_process(session.target(), process));
  if (p.object_table.is_null())
    return fail(Why::unsupported, "the process has no handle table; name another: !handle 0 3 PID");
  const nt::HandleWalk walk = session.objects().handles(p.object_table);
  Node n = table_node({{"handle", "Handle"},
                       {"object", "Object"},
                       {"access", "GrantedAccess"},
                       {"type", "Type"},
                       {"name", "Name"}});
  n["title"] =
      fmt::format("PROCESS {:016x}  Cid: {:04x}  Image: {}  Handle table at {:016x} with {} entries in use",
                  p.address.value(), p.pid, p.name, p.object_table.value(), walk.handles.size());
  n["process"] = process;
  for (const nt::Handle& h : walk.handles) {
    if (wanted != 0 && h.value != wanted) continue;
    Node row = Node::map();
    row["handle"] = fmt::format("{:04x}", h.value);
    row["object"] = h.object;
    row["access"] = fmt::format("{:08x}", h.access);
    const auto info = session.objects().info(h.object);
    row["type"] = info ? info->type : std::string();
    std::string name = info ? info->name : "";
    if (nt::is_file_object(session.target(), h.object)) {
      if (const auto f = nt::read_file_object(session.target(), session.objects(), h.object))
        name = f->full_path();
    } else if (!name.empty()) {
      name = session.objects().path(h.object);
    }
    row["name"] = name;
    n["rows"].add(std::move(row));
  }
  n["gaps"] = gaps_node(walk.gaps);
  if (!walk.gaps.empty())
    n["note"] = fmt::format("*** {}: {}", walk.gaps.front().what, walk.gaps.front().why);
  return n;
}

}  // namespace

extern const DebuggerCommand handle_debugger_command;
const DebuggerCommand handle_debugger_command{.names = {"!handle"},
                                              .usage = "!handle [HANDLE [FLAGS [PROCESS]]]",
                                              .help = "handles of a process (0 for all)",
                                              .run = run};

}  // namespace unhang::app
