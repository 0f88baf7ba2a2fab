// !running: what each processor does.
#include "report/shapes/shape.h"
#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  out.line("System Processors:  ({:016x})", n.get("processors").as_u64());
  out.line("  Idle Processors:  ({:016x})", n.get("idle").as_u64());
  out.blank();
  out.raw("       Prcbs             Current         (pri) Next            (pri) Idle");
  for (const Node& c : n.get("cpus").items()) {
    const u64 next = c.get("next").as_u64();
    out.line("  {:<3}  {:016x}  {:016x} ({:>3}) {}      {:016x}  {:16}  {}", c.get("number").as_u64(),
             c.get("kprcb").as_u64(), c.get("thread").as_u64(),
             c.get("priority").is_null() ? std::string("?") : fmt::format("{}", c.get("priority").as_i64()),
             next == 0 ? std::string(16, ' ') : fmt::format("{:016x}", next), c.get("idle_thread").as_u64(),
             c.get("queued_locks").as_text(), c.get("what").as_text());
    if (c.get("stack").empty()) continue;
    out.blank();
    print_stack(c.get("stack"), out, true);
    print_stack_end(c, out);
    out.blank();
  }
}

}  // namespace

extern const Shape running_shape;
const Shape running_shape{.name = "running", .print = print};

}  // namespace unhang::report
