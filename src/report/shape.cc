#include "report/shapes/shape.h"

namespace unhang::report {

void print_stack(const Node& frames, Text& out, bool numbers) {
  if (frames.empty()) return;
  const bool args = !frames.items().front().get("args").is_null();
  out.line("{}Child-SP          RetAddr           : {}Call Site", numbers ? " # " : "",
           args ? "Args to Child                                                           : " : "");
  size_t number = 0;
  for (const Node& f : frames.items()) {
    std::string s = numbers ? fmt::format("{:02x} ", number++) : "";
    s += fmt::format("{} {} : ", VirtAddr(f.get("sp").as_u64()), VirtAddr(f.get("return_address").as_u64()));
    if (args) {
      for (const Node& a : f.get("args").items())
        s += a.is_null() ? "????????`???????? " : fmt::format("{} ", a.as_address());
      s += ": ";
    }
    s += f.get("symbol").as_text();
    if (const Node* trap = f.find("trap_frame")) s += fmt::format(" (TrapFrame @ {})", trap->as_address());
    if (f.get("trust").as_text() != "exact") s += fmt::format("  [{}]", f.get("trust").as_text());
    out.raw(s);
  }
}

void print_stack_end(const Node& thread, Text& out) {
  const std::string_view end = thread.get("stack_end").as_text();
  if (!end.empty() && end != "complete") out.line("*** stack: {}", end);
}

void print_gaps(const Node& gaps, Text& out) {
  for (const Node& g : gaps.items()) {
    const std::string_view where = g.get("where").as_text();
    out.line("*** {}{}: {}", g.get("what").as_text(), where.empty() ? "" : fmt::format(" at {}", where),
             g.get("why").as_text());
  }
}

void print_not_seen(const Node& list, Text& out) {
  const auto& gaps = list.items();
  if (gaps.empty()) return;
  constexpr size_t kMost = 8, kWidth = 118;
  out.raw(out.bold("NOT SEEN"));
  for (size_t i = 0; i < gaps.size() && i < kMost; i++) {
    const std::string where =
        gaps[i].get("where").is_null() ? "" : fmt::format(" ({})", gaps[i].get("where").as_text());
    out.paragraph(
        fmt::format("  - {}{}: {}", gaps[i].get("what").as_text(), where, gaps[i].get("why").as_text()),
        kWidth, 4);
  }
  if (gaps.size() > kMost) out.line("  ... and {} more: --json lists them all", gaps.size() - kMost);
  out.blank();
}

}  // namespace unhang::report
