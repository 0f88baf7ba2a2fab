// !locks over all resources.
#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  out.raw("**** DUMP OF ALL RESOURCE OBJECTS ****");
  for (const Node& r : n.get("resources").items()) {
    out.print(r);
    out.blank();
  }
  out.line("{} total locks, {} locks currently held", n.get("total").as_u64(), n.get("held").as_u64());
  if (const std::string_view end = n.get("list_end").as_text(); !end.empty() && end != "complete")
    out.line("*** the list is not whole: {}", end);
}

}  // namespace

extern const Shape locks_shape;
const Shape locks_shape{.name = "locks", .print = print};

}  // namespace unhang::report
