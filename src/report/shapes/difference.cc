// diff: what stands still, what moves, which locks changed hands.
#include "report/shapes/shape.h"

namespace unhang::report {

namespace {

constexpr size_t kMost = 15;

std::string names(const Node& list) {
  std::string s;
  for (const Node& n : list.items()) s += fmt::format("{}{}", s.empty() ? "" : ", ", n.as_text());
  return s.empty() ? "nobody" : s;
}

void more(size_t all, Text& out) {
  if (all > kMost) out.line("  ... and {} more: --json lists them all", all - kMost);
}

void print_locks(const Node& n, Text& out) {
  const auto& locks = n.get("locks").items();
  if (locks.empty()) return;
  out.raw(out.bold("LOCKS WITH WAITERS"));
  for (size_t i = 0; i < locks.size() && i < kMost; i++) {
    const Node& l = locks[i];
    out.line("  {} {}  {}", l.get("kind").as_text(), scalar_text(l.get("address")), l.get("name").as_text());
    if (l.get("same_owners").as_bool())
      out.line("    still held by {}; {} -> {} waiters, contention +{}", names(l.get("owners_after")),
               l.get("waiters_before").as_u64(), l.get("waiters_after").as_u64(),
               l.get("contention").as_u64());
    else
      out.line("    held by {}, then by {}; {} -> {} waiters, contention +{}", names(l.get("owners_before")),
               names(l.get("owners_after")), l.get("waiters_before").as_u64(),
               l.get("waiters_after").as_u64(), l.get("contention").as_u64());
  }
  more(locks.size(), out);
  out.blank();
}

void print(const Node& n, Text& out) {
  out.raw(out.bold(fmt::format("{}", n.get("verdict").as_text())));
  out.paragraph(n.get("summary").as_text(), 110, 2);
  out.blank();
  const auto& stuck = n.get("stuck").items();
  if (!stuck.empty()) {
    out.raw(out.bold("DID NOT MOVE"));
    for (size_t i = 0; i < stuck.size() && i < kMost; i++)
      out.line("  {:<32} waits for {} {}{}{}{}", stuck[i].get("who").as_text(),
               scalar_text(stuck[i].get("wait")), scalar_text(stuck[i].get("object")),
               stuck[i].get("name").is_null() ? "" : fmt::format(" {}", stuck[i].get("name").as_text()),
               stuck[i].get("owner").is_null() ? "" : fmt::format(" of {}", stuck[i].get("owner").as_text()),
               stuck[i].get("waiting_threads").as_u64() == 0
                   ? ""
                   : fmt::format("; {} behind it",
                                 counted(stuck[i].get("waiting_threads").as_u64(), "thread", "threads")));
    more(stuck.size(), out);
    out.blank();
  }
  const auto& busy = n.get("busy").items();
  if (!busy.empty()) {
    out.raw(out.bold("USED THE CPU"));
    for (size_t i = 0; i < busy.size() && i < kMost; i++)
      out.line("  {:<32} {:>8} ms, {}", busy[i].get("who").as_text(), busy[i].get("cpu_ms").as_u64(),
               counted(busy[i].get("context_switches").as_u64(), "context switch", "context switches"));
    more(busy.size(), out);
    out.blank();
  }
  print_locks(n, out);
  print_not_seen(n.get("gaps"), out);
  const Node& threads = n.get("threads");
  out.line("{} threads in both dumps, {} ended, {} started", threads.get("in_both").as_u64(),
           threads.get("ended").as_u64(), threads.get("started").as_u64());
}

}  // namespace

extern const Shape difference_shape;
const Shape difference_shape{.name = "difference", .print = print};

}  // namespace unhang::report
