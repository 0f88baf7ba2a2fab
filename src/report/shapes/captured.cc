// capture: what was written, how long the guest stood still for it, and what to do with it.
#include "report/text.h"

namespace unhang::report {

namespace {

std::string seconds(const Node& ms) {
  return fmt::format("{:.2f} s", static_cast<double>(ms.as_i64()) / 1e3);
}

std::string mib(const Node& bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes.as_u64()) / (1 << 20));
}

void print_dump(const Node& d, Text& out) {
  out.line("{}: {}, {}, {} on the disk, in {}", out.bold(d.get("output").as_text()),
           d.get("format").as_text(), mib(d.get("file_size")), mib(d.get("on_disk")),
           seconds(d.get("took_ms")));
  if (!d.get("ran_before").as_bool())
    out.line("  the guest did not run before ({}) and was left so", d.get("state_before").as_text());
  else if (d.get("paused_ms").is_null())
    out.line("  the guest stood still for at most that time, and runs again");
  else
    out.line("  the guest stood still for {}, and runs again", seconds(d.get("paused_ms")));
}

void print_watch(const Node& w, Text& out) {
  if (!w.get("slow").as_bool()) {
    out.line("the probe was never slow within {}: no dump was taken", seconds(w.get("watched_ms")));
    if (const u64 failed = w.get("failed").as_u64(); failed != 0)
      out.line("  *** it failed {} in {}", counted(failed, "time", "times"), w.get("probes").as_u64());
    return;
  }
  out.line("probe {} had run for {} when the dump began", w.get("probes").as_u64(), seconds(w.get("ran_ms")));
  if (w.get("lasted").as_bool())
    out.line("  and still ran at the end: the dump shows the symptom");
  else
    out.line("  *** and ended meanwhile: the dump may show a machine that had just recovered");
}

void print(const Node& n, Text& out) {
  const auto& dumps = n.get("dumps").items();
  for (const Node& d : dumps) print_dump(d, out);
  if (!n.get("watch").is_null()) print_watch(n.get("watch"), out);
  if (dumps.empty()) return;
  const auto first = dumps.front().get("output").as_text();
  out.line("next: unhang {}", first);
  if (dumps.size() > 1) out.line("      unhang diff {} {}", first, dumps.back().get("output").as_text());
}

}  // namespace

extern const Shape captured_shape;
const Shape captured_shape{.name = "captured", .print = print};

}  // namespace unhang::report
