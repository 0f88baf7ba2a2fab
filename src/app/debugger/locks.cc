// !locks [-v] [-d] [address]: executive resources.
#include <algorithm>

#include "app/command.h"
#include "app/expression.h"
#include "app/views/view.h"

namespace unhang::app {

namespace {

Node full_node(Session& session, const nt::Resource& r, bool verbose) {
  Node n = resource_node(session, r);
  n["protects"] = Node::list();
  for (const std::string& p : session.world().files_of_resource(r.address)) n["protects"].add(p);
  if (!verbose) return n;
  n["threads"] = Node::list();
  std::vector<VirtAddr> all;
  for (const nt::ResourceOwner& o : r.owners)
    if (o.is_thread) all.push_back(o.thread);
  all.insert(all.end(), r.exclusive_waiters.begin(), r.exclusive_waiters.end());
  all.insert(all.end(), r.shared_waiters.begin(), r.shared_waiters.end());
  for (const VirtAddr va : all)
    if (const auto t = nt::read_thread(session.target(), va)) n["threads"].add(thread_node(session, *t, {}));
  return n;
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  bool verbose = false, all = false;
  VirtAddr address{};
  for (const std::string& a : args) {
    if (a == "-v")
      verbose = true;
    else if (a == "-d")
      all = true;
    else if (a != "-p")
      address = TRY(evaluate(session, a));
  }
  if (!address.is_null()) {
    if (!nt::is_resource(session.target(), address))
      return fail(Error{.why = Why::implausible,
                        .va = address,
                        .type = "_ERESOURCE",
                        .detail = "not a resource: its list links do not point back"});
    return full_node(session, TRY(nt::read_resource(session.target(), address)), verbose);
  }
  const nt::ResourceList list = nt::list_resources(session.target(), session.world().file_resources());
  if (list.resources.empty() && !list.walk.complete()) return fail(list.walk.error);
  if (list.resources.empty() && !list.gaps.empty())
    return fail(Error{.why = Why::no_symbol,
                      .type = "ExpSystemResourcesList",
                      .detail = "and no file leads to a resource"});
  Node n = Node::shaped("locks");
  n["resources"] = Node::list();
  u64 held = 0;
  for (const VirtAddr va : list.resources) {
    const auto r = nt::read_resource(session.target(), va);
    if (!r) continue;
    if (r->held()) held++;
    if (!all && !r->held() && !r->contended()) continue;
    n["resources"].add(full_node(session, *r, verbose));
  }
  n["total"] = u64{list.resources.size()};
  n["held"] = held;
  n["list_end"] = list.walk.how();
  n["found_by"] = list.how;
  return n;
}

}  // namespace

extern const DebuggerCommand locks_debugger_command;
const DebuggerCommand locks_debugger_command{
    .names = {"!locks"},
    .usage = "!locks [-v] [-d] [ADDRESS]",
    .help = "resources: owners and waiters (-d all, -v with threads)",
    .run = run};

}  // namespace unhang::app
