// !vm: how much memory is left.
#include "app/command.h"
#include "app/lines.h"
#include "base/format.h"
#include "nt/objects/memory_counters.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>&) {
  const nt::MemoryCounters m = nt::read_memory_counters(session.target());
  if (!m.any())
    return fail(Error{.why = Why::no_symbol,
                      .type = "MmAvailablePages",
                      .detail = "symbols of the kernel tell where the counters lie"});
  Node n = lines_node();
  const auto add = [&](const char* what, const char* key, const std::optional<u64>& pages) {
    if (!pages) return;
    Node line = Node::map();
    line["text"] = fmt::format("  {:<28}{:>12} ({:>12} Kb)", what, *pages, *pages * 4);
    n["lines"].add(std::move(line));
    n[key] = *pages;
  };
  add("Physical Memory:", "physical_pages", m.physical);
  add("Available Pages:", "available_pages", m.available);
  add("ResAvail Pages:", "resident_available_pages", m.resident_available);
  add("Committed pages:", "committed_pages", m.committed);
  add("Commit limit:", "commit_limit_pages", m.commit_limit);
  if (!m.tags.empty()) {
    add("NonPagedPool Usage:", "nonpaged_pool_pages", m.nonpaged_bytes / kPageSize);
    add("PagedPool Usage:", "paged_pool_pages", m.paged_bytes / kPageSize);
  }
  return n;
}

}  // namespace

extern const DebuggerCommand vm_debugger_command;
const DebuggerCommand vm_debugger_command{
    .names = {"!vm"}, .usage = "!vm", .help = "available, committed and pool memory", .run = run};

}  // namespace unhang::app
