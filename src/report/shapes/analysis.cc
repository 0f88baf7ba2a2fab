// The verdict screen: what is wrong, who waits for whom, the proof, what to do, what could not be seen.
#include <algorithm>
#include <set>

#include "report/shapes/shape.h"

namespace unhang::report {

namespace {

constexpr size_t kWidth = 118;
constexpr size_t kFrames = 12, kFramesOfMember = 8;

std::string duration(u64 ms) {
  if (ms < 1000) return fmt::format("{} ms", ms);
  if (ms < 60'000) return fmt::format("{}.{} s", ms / 1000, ms % 1000 / 100);
  if (ms < 3'600'000) return fmt::format("{} min {} s", ms / 60'000, ms % 60'000 / 1000);
  return fmt::format("{} h {} min", ms / 3'600'000, ms % 3'600'000 / 60'000);
}

std::string size(u64 bytes) {
  if (bytes >= (u64{1} << 30)) return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1 << 30));
  return bytes >= (1 << 20) ? fmt::format("{} MiB", bytes >> 20)
                            : fmt::format("{} KiB", (bytes + 1023) >> 10);
}

std::string who(const Node& thread) {
  if (thread.is_null()) return "nobody that the dump names";
  if (thread.get("pid").is_null()) return fmt::format("thread {}", thread.get("thread").as_address());
  return fmt::format("{} {}.{}", thread.get("process").as_text("?"), thread.get("pid").as_u64(),
                     thread.get("tid").as_u64());
}

// What the thread at the other end has to do with the object.
std::string_view relation(std::string_view kind) {
  if (kind == "ALPC" || kind == "window message") return "to be answered";
  if (kind == "page-in") return "read";
  if (kind == "work item" || kind == "event") return "worked on";
  if (kind == "oplock") return "to be acknowledged";
  if (kind == "Thread") return "ended";
  if (kind == "ProcessObject") return "kept from ending";
  return "held";
}

void print_head(const Node& n, Text& out) {
  const Node &dump = n.get("dump"), &target = n.get("target");
  const u64 up = target.get("uptime_s").as_u64();
  out.line("{}  {}, {}", dump.get("path").as_text(), dump.get("description").as_text(),
           size(dump.get("size").as_u64()));
  out.line(
      "Windows x64 build {}{}, {} processors{}{}",
      target.get("build").is_null() ? "unknown" : fmt::format("{}", target.get("build").as_u64()),
      target.get("build_lab").is_null() ? "" : fmt::format(" ({})", target.get("build_lab").as_text()),
      dump.get("cpu_count").as_u64(),
      target.get("system_time").is_null() ? "" : fmt::format(", {}", target.get("system_time").as_text()),
      up == 0 ? "" : fmt::format(", up {}", duration(up * 1000)));
  out.line("types and names: {}", target.get("layout_source").as_text());
  out.blank();
}

void print_stack(const Node& thread, size_t most, Text& out) {
  const auto& frames = thread.get("stack").items();
  if (frames.empty()) return;
  // Cid: as debuggers write it, in hexadecimal.
  out.line("  stack of {}, Cid {:x}.{:x} ({}):", who(thread), thread.get("pid").as_u64(),
           thread.get("tid").as_u64(), thread.get("stack_from").as_text("?"));
  for (size_t i = 0; i < frames.size() && i < most; i++)
    out.line("      {}{}", frames[i].get("symbol").as_text(),
             frames[i].get("trust").as_text() == "exact"
                 ? ""
                 : fmt::format("  [{}]", frames[i].get("trust").as_text()));
  if (frames.size() > most)
    out.line("      ... {} more frames: !thread {}", frames.size() - most,
             thread.get("address").as_address());
}

const Node* find_thread(const Node& n, VirtAddr va) {
  for (const Node& t : n.get("threads").items())
    if (t.get("address").as_address() == va) return &t;
  return nullptr;
}

void print_chain(const Node& n, const Node& finding, Text& out) {
  const auto& chain = finding.get("chain").items();
  if (chain.empty()) return;
  out.raw(out.bold("WHO WAITS FOR WHOM"));
  for (const Node& link : chain) {
    const auto& waiters = link.get("waiters").items();
    const std::string waiting = waiters.size() == 1 ? who(waiters.front())
                                                    : fmt::format("{} threads: {}", waiters.size(),
                                                                  link.get("waiting_processes").as_text());
    const bool one = waiters.size() == 1;
    // Who turns in a loop has no time at which it began to wait.
    out.paragraph(link.get("kind").as_text().ends_with("spin lock")
                      ? fmt::format("  {} {}", waiting, one ? "spins" : "spin")
                      : fmt::format("  {} {} {}", waiting, one ? "waits" : "wait up to",
                                    duration(link.get("longest_ms").as_u64())),
                  kWidth, 4);
    const std::string named =
        link.get("name").is_null() ? "" : fmt::format("  {}", link.get("name").as_text());
    out.line("    for {} {}{}{}", link.get("kind").as_text(), link.get("object").as_address(), named,
             link.get("confidence").as_text() == "exact"
                 ? ""
                 : fmt::format("  [{}]", link.get("confidence").as_text()));
    if (link.get("owner").is_null()) continue;
    const Node& owner = link.get("owner");
    const std::string mode = link.get("mode").is_null() ? "" : fmt::format(" {}", link.get("mode").as_text());
    const std::string state = owner.get("cpu").is_null()
                                  ? std::string(owner.get("state").as_text("?"))
                                  : fmt::format("RUNNING on CPU {}", owner.get("cpu").as_u64());
    const u64 others = link.get("other_owners").as_u64();
    out.line("    {}{} {}  ({}){}", relation(link.get("kind").as_text()), mode.empty() ? " by" : mode + " by",
             out.bold(who(owner)), state,
             others == 0 ? "" : fmt::format(" and by {}", counted(others, "more thread", "more threads")));
  }
  if (const Node& also = finding.get("also_waiting"); !also.is_null())
    out.paragraph(fmt::format("  {} held up beside these: {}",
                              counted(also.get("threads").as_u64(), "more thread is", "more threads are"),
                              also.get("processes").as_text()),
                  kWidth, 4);
  if (finding.get("class").as_text() == "deadlock") {
    // Each stack of the circle says where one of the locks was taken.
    for (const Node& link : chain)
      if (const Node* t = find_thread(n, link.get("waiters").items().front().get("thread").as_address()))
        print_stack(*t, kFramesOfMember, out);
  } else if (const Node* t = find_thread(n, finding.get("culprit").get("thread").as_address())) {
    print_stack(*t, kFrames, out);
  }
  out.blank();
}

// What a thread waits for and who has it, by the wait graph; else what its wait objects are.
std::string wait_text(const Node& n, const Node& t) {
  const VirtAddr va = t.get("address").as_address();
  for (const Node& e : n.get("wait_graph").get("edges").items()) {
    if (e.get("from").as_address() != va) continue;
    const Node& via = e.get("via");
    std::string s = fmt::format("{} {}", via.get("kind").as_text(), via.get("address").as_address());
    for (const Node& lock : n.get("locks").items())
      if (lock.get("address").as_address() == via.get("address").as_address() &&
          !lock.get("protects").empty())
        s += fmt::format(" ({})", lock.get("protects").items().front().as_text());
    const Node* other = e.get("to").is_null() ? nullptr : find_thread(n, e.get("to").as_address());
    if (other != nullptr)
      return fmt::format("{}, {} by {}", s, relation(via.get("kind").as_text()), who(*other));
    if (!e.get("note").is_null()) return fmt::format("{}: {}", s, e.get("note").as_text());
    break;
  }
  std::string things;
  for (const Node& w : t.get("waits_on").items()) {
    const std::string_view detail = w.get("detail").as_text("");
    things += fmt::format("{}{}{}", things.empty() ? "" : " or ", w.get("kind").as_text(),
                          detail.empty() ? "" : fmt::format(" ({})", detail));
  }
  return things.empty() ? std::string(t.get("wait_reason").as_text("?")) : things;
}

// Of the threads that the user asked about: what each waits for, those first that wait for somebody.
void print_entry_points(const Node& n, Text& out) {
  if (n.get("entry_points").empty()) return;
  constexpr size_t kMost = 8;
  const auto rank = [](const Node& t) {
    const std::string_view nature = t.get("waits_for").as_text("");
    if (nature == "lock" || nature == "request" || nature == "io" || nature == "suspended") return 0;
    if (t.get("state").as_text("") != "Waiting") return 1;
    return nature == "event" ? 2 : 3;
  };
  std::set<VirtAddr> asked;
  for (const Node& e : n.get("entry_points").items()) asked.insert(e.get("thread").as_address());
  std::vector<const Node*> threads;
  for (const Node& t : n.get("threads").items())
    if (asked.contains(t.get("address").as_address())) threads.push_back(&t);
  std::stable_sort(threads.begin(), threads.end(), [&](const Node* a, const Node* b) {
    if (rank(*a) != rank(*b)) return rank(*a) < rank(*b);
    return a->get("waited_ms").as_u64() > b->get("waited_ms").as_u64();
  });
  out.raw(out.bold("THE THREADS YOU ASKED ABOUT"));
  for (size_t i = 0; i < threads.size() && i < kMost; i++) {
    const Node& t = *threads[i];
    std::string what(t.get("state").as_text("?"));
    if (!t.get("cpu").is_null()) what = fmt::format("RUNNING on CPU {}", t.get("cpu").as_u64());
    if (!t.get("waits_for").is_null())
      what = fmt::format("waits {}for {}",
                         t.get("waited_ms").is_null() ? "" : duration(t.get("waited_ms").as_u64()) + " ",
                         wait_text(n, t));
    out.paragraph(fmt::format("  {}: {}", who(t), what), kWidth, 4);
  }
  if (threads.size() > kMost)
    out.line("  ... and {}", counted(threads.size() - kMost, "more thread", "more threads"));
  out.blank();
}

void print_evidence(const Node& finding, Text& out) {
  const auto& evidence = finding.get("evidence").items();
  if (evidence.empty()) return;
  out.raw(out.bold("EVIDENCE"));
  size_t i = 1;
  for (const Node& e : evidence) {
    std::string line = fmt::format("  {}. {}", i++, e.get("text").as_text());
    if (e.get("confidence").as_text() != "exact") line += fmt::format(" [{}]", e.get("confidence").as_text());
    if (!e.get("check").is_null()) line += fmt::format("  ({})", e.get("check").as_text());
    out.paragraph(line, kWidth, 5);
    for (const Node& r : e.get("reads").items())
      out.line("       {} <- va {} <- pa {} <- file offset {}", r.get("member").as_text(),
               r.get("va").as_address(),
               r.get("pa").is_null() ? "?" : fmt::format("{:#x}", r.get("pa").as_u64()),
               r.get("file_offset").is_null() ? "?" : fmt::format("{:#x}", r.get("file_offset").as_u64()));
  }
  out.blank();
}

void print_directory(const Node& d, Text& out) {
  if (d.is_null() || d.get("names").as_u64() == 0) return;
  out.raw(out.bold(fmt::format("THE DIRECTORY  {}", d.get("path").as_text())));
  out.line("  at least {} files; names in memory by pattern:", d.get("names").as_u64());
  size_t shown = 0;
  for (const Node& p : d.get("patterns").items()) {
    if (shown++ == 5) break;
    out.line("    {:>8}  {:<24} e.g. {}", p.get("count").as_u64(), p.get("pattern").as_text(),
             p.get("example").as_text());
  }
  if (!d.get("oldest_created").is_null())
    out.line("  created between {} and {}", d.get("oldest_created").as_text(),
             d.get("newest_created").as_text());
  for (const Node& h : d.get("held_by").items())
    out.line("  {}: {}, {}, {} under way", h.get("process").as_text(),
             counted(h.get("processes").as_u64(), "process", "processes"),
             counted(h.get("handles").as_u64(), "open handle", "open handles"),
             counted(h.get("requests").as_u64(), "request", "requests"));
  if (d.get("bytes_scanned").as_u64() < d.get("bytes_total").as_u64())
    out.line("  (only {} of {} of memory were searched in the time allowed: more may be there)",
             size(d.get("bytes_scanned").as_u64()), size(d.get("bytes_total").as_u64()));
  out.blank();
}

void print_advice(const Node& finding, Text& out) {
  if (finding.get("advice").empty()) return;
  out.raw(out.bold("WHAT TO DO NEXT"));
  for (const Node& a : finding.get("advice").items())
    out.paragraph(fmt::format("  - {}", a.as_text()), kWidth, 4);
  out.blank();
}

void print_others(const Node& n, Text& out) {
  const auto& findings = n.get("findings").items();
  if (findings.size() < 2) return;
  out.raw(out.bold("OTHER FINDINGS"));
  for (size_t i = 1; i < findings.size(); i++)
    out.paragraph(fmt::format("  {} [{}]: {}", findings[i].get("class").as_text(),
                              findings[i].get("confidence").as_text(), findings[i].get("title").as_text()),
                  kWidth, 4);
  out.blank();
}

// Nothing: none of them has waited for any time that can be told, as who spins for a lock.
std::string longest(const Node& ms) {
  if (ms.is_null()) return "the longest for an unknown time";
  return ms.as_u64() == 0 ? "" : fmt::format("the longest for {}", duration(ms.as_u64()));
}

void print_ranking(const Node& n, Text& out) {
  const auto& ranking = n.get("ranking").items();
  if (ranking.empty()) return;
  constexpr size_t kMost = 8;
  out.raw(out.bold("WHO KEEPS OTHERS WAITING"));
  for (size_t i = 0; i < ranking.size() && i < kMost; i++)
    out.line("  {:>5} {:<7} behind {:<32} {}", ranking[i].get("waiting_threads").as_u64(),
             ranking[i].get("waiting_threads").as_u64() == 1 ? "thread" : "threads", who(ranking[i]),
             longest(ranking[i].get("longest_ms")));
  out.blank();
}

void print(const Node& n, Text& out) {
  print_head(n, out);
  const Node& verdict = n.get("verdict");
  const std::string cls(verdict.get("class").as_text());
  const std::string painted = cls == "no-hang"   ? out.green(cls)
                              : cls == "unknown" ? out.yellow(cls)
                                                 : out.red(cls);
  out.line("{} {}   [{}]", out.bold("VERDICT"), painted, verdict.get("confidence").as_text());
  out.paragraph(fmt::format("  {}", verdict.get("summary").as_text()), kWidth, 2);
  out.blank();
  print_entry_points(n, out);
  if (!n.get("findings").empty()) {
    const Node& first = n.get("findings").items().front();
    print_chain(n, first, out);
    print_directory(first.get("directory"), out);
    print_evidence(first, out);
    print_advice(first, out);
    print_others(n, out);
  }
  print_ranking(n, out);
  print_not_seen(n.get("gaps"), out);
}

}  // namespace

extern const Shape analysis_shape;
const Shape analysis_shape{.name = "analysis", .print = print};

}  // namespace unhang::report
