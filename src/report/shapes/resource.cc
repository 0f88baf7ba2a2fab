// One resource of !locks, in the form that current debuggers print (WINDOWS 1.1).
#include "report/shapes/shape.h"
#include "report/text.h"

namespace unhang::report {

namespace {

void print_waiting(const Node& list, const char* head, Text& out) {
  if (list.empty()) return;
  out.blank();
  out.raw(head);
  std::string line;
  for (const Node& t : list.items()) {
    line += fmt::format("{:016x}       ", t.as_u64());
    if (line.size() > 60) {
      out.raw("              " + line);
      line.clear();
    }
  }
  if (!line.empty()) out.raw("              " + line);
}

void print(const Node& n, Text& out) {
  const std::string name(n.get("name").as_text());
  const std::string where = name.empty() ? fmt::format("0x{:016x}", n.get("address").as_u64())
                                         : fmt::format("{} (0x{:016x})", name, n.get("address").as_u64());
  const std::string_view mode = n.get("mode").as_text();
  size_t owners = n.get("owners").size();
  const std::string how = mode == "exclusive" ? "Exclusively owned"
                          : owners == 0       ? "Available"
                                              : fmt::format("Shared {} owning threads", owners);
  out.line("Resource @ {}    {}", where, how);
  if (const u64 c = n.get("contention").as_u64(); c != 0) out.line("    Contention Count = {}", c);
  if (const u64 c = n.get("shared_waiter_count").as_u64(); c != 0)
    out.line("    NumberOfSharedWaiters = {}", c);
  if (const u64 c = n.get("exclusive_waiter_count").as_u64(); c != 0)
    out.line("    NumberOfExclusiveWaiters = {}", c);
  if (const Node* files = n.find("protects"); files != nullptr && !files->empty())
    out.line("    Guards: {}", files->items().front().as_text());
  std::string line = "     Threads: ";
  auto add = [&](const std::string& s) {
    if (line.size() > 80) {
      out.raw(line);
      line = "              ";
    }
    line += s;
  };
  for (const Node& o : n.get("owners").items()) {
    add(fmt::format("{:016x}-{:02}<*> ", o.get("raw").as_u64(), o.get("count").as_u64()));
    if (o.get("raw").as_u64() != o.get("thread").as_u64())
      add(fmt::format("*** {} {:016x} ",
                      o.get("is_thread").as_bool() ? "Actual Thread" : "Owner pointer, not a thread:",
                      o.get("thread").as_u64()));
  }
  // Shared waiters stand in the same list without the mark.
  for (const Node& t : n.get("shared_waiters").items()) add(fmt::format("{:016x}-01    ", t.as_u64()));
  if (owners != 0 || !n.get("shared_waiters").empty()) out.raw(line);
  print_waiting(n.get("exclusive_waiters"), "     Threads Waiting On Exclusive Access:", out);
  print_gaps(n.get("gaps"), out);
  for (const Node& t : n.get("threads").items()) {
    out.blank();
    out.indent(4);
    out.print(t);
    out.indent(-4);
  }
}

}  // namespace

extern const Shape resource_shape;
const Shape resource_shape{.name = "resource", .print = print};

}  // namespace unhang::report
