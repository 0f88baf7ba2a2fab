// !process 0 0, !process 0 7, !process address [flags] [image].
#include <algorithm>

#include "app/cid.h"
#include "app/command.h"
#include "app/expression.h"
#include "app/views/view.h"

namespace unhang::app {

namespace {

bool same_name(std::string_view a, std::string_view b) {
  auto low = [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : +c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return low(x) == low(y); });
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  // A name in the address's place is what many type first.
  const bool by_name = !args.empty() && args[0].find(".exe") != std::string::npos;
  const bool all_of_them = by_name || (!args.empty() && TRY(evaluate(session, args[0])).is_null());
  const u64 flags = args.size() > 1 ? TRY(evaluate(session, args[1])).value() : 3;
  const std::string image = by_name ? args[0] : args.size() > 2 ? args[2] : "";
  const ProcessParts parts{.details = (flags & 1) != 0,
                           .threads = (flags & 6) != 0,
                           .thread = {.waits = (flags & 2) != 0, .stack = (flags & 6) == 6}};
  if (!all_of_them) {
    const VirtAddr which = args.empty() ? session.current_process() : TRY(process_of(session, args[0]));
    return process_node(session, TRY(nt::read_process(session.target(), which)), parts);
  }
  Node all = Node::list();
  for (const VirtAddr va : nt::list_processes(session.target()).processes) {
    const auto p = nt::read_process(session.target(), va);
    if (!p) {
      Node bad = Node::shaped("process");
      bad["address"] = va;
      bad["error"] = text(p.error());
      all.add(std::move(bad));
      continue;
    }
    if (!image.empty() && !same_name(p->name, image)) continue;
    all.add(process_node(session, *p, parts));
  }
  if (all.empty()) return fail(Error{.why = Why::unsupported, .detail = "no process of that name"});
  return all;
}

}  // namespace

extern const DebuggerCommand process_debugger_command;
const DebuggerCommand process_debugger_command{.names = {"!process"},
                                               .usage = "!process [0|ADDRESS|PID|IMAGE.exe [FLAGS [IMAGE]]]",
                                               .help = "processes: 0 0 lists, 0 7 with threads and stacks",
                                               .run = run};

}  // namespace unhang::app
