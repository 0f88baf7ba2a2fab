// !poolused: pool by tag, the largest first.
#include "app/command.h"
#include "app/table.h"
#include "base/format.h"
#include "nt/objects/memory_counters.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>&) {
  const nt::MemoryCounters m = nt::read_memory_counters(session.target());
  if (m.tags.empty()) {
    if (session.target().symbol("PoolTrackTable"))
      return fail(Error{.why = Why::unsupported, .detail = "PoolTrackTable is null, or not in the dump"});
    return fail(Error{.why = Why::no_symbol,
                      .type = "PoolTrackTable",
                      .detail = "symbols of the kernel tell where it lies"});
  }
  Node n = table_node({{"tag", "Tag"},
                       {"nonpaged_count", "NonPaged Allocs"},
                       {"nonpaged_bytes", "NonPaged Used"},
                       {"paged_count", "Paged Allocs"},
                       {"paged_bytes", "Paged Used"}});
  for (const nt::PoolTag& t : m.tags) {
    Node row = Node::map();
    row["tag"] = t.tag;
    row["nonpaged_count"] = t.nonpaged_count;
    row["nonpaged_bytes"] = t.nonpaged_bytes;
    row["paged_count"] = t.paged_count;
    row["paged_bytes"] = t.paged_bytes;
    n["rows"].add(std::move(row));
  }
  return n;
}

}  // namespace

extern const DebuggerCommand poolused_debugger_command;
const DebuggerCommand poolused_debugger_command{
    .names = {"!poolused"}, .usage = "!poolused", .help = "pool by tag, the largest first", .run = run};

}  // namespace unhang::app
