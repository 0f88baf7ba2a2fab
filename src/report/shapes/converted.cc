// convert: what was written, and what a debugger will find in it.
#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  out.line("{}: {}, {} pages, {} bytes", n.get("output").as_text(), n.get("written").as_text(),
           n.get("pages").as_u64(), n.get("file_size").as_u64());
  if (const Node* contexts = n.find("contexts")) {
    out.line("registers of {} of {} processors are in it{}", contexts->as_u64(), n.get("processors").as_u64(),
             n.get("xmm").as_bool() ? ", XMM registers included" : "; the dump has no XMM registers");
    if (!n.get("cpu").is_null()) out.line("the debugger will stand on processor {}", n.get("cpu").as_u64());
    if (n.get("left_out").as_u64() != 0)
      out.line("{} KiB that Windows does not own are left out", n.get("left_out").as_u64() >> 10);
  }
  for (const Node& g : n.get("gaps").items())
    out.line("*** {}{}: {}", g.get("what").as_text(),
             g.get("where").as_text().empty() ? "" : fmt::format(" ({})", g.get("where").as_text()),
             g.get("why").as_text());
}

}  // namespace

extern const Shape converted_shape;
const Shape converted_shape{.name = "converted", .print = print};

}  // namespace unhang::report
