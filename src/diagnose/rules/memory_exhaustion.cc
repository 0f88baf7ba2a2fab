// No memory is left: threads wait for free pages or for pool, or commit has reached its limit and every
// allocation fails.
#include <algorithm>

#include "base/format.h"
#include "diagnose/memory_waits.h"
#include "diagnose/pending_io.h"
#include "nt/objects/memory_counters.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kPagesPerMib = 256;

std::string mib(u64 pages) {
  return fmt::format("{} MiB", pages / kPagesPerMib);
}

void find(Context& c, std::vector<Finding>& findings) {
  const std::vector<VirtAddr> waiting = memory_waiters(c);
  std::vector<VirtAddr> suffering = c.graph.with_behind(waiting);
  u64 longest = 0;
  for (const VirtAddr w : waiting)
    longest = std::max(longest, c.world.thread(w)->thread.waited_ms.value_or(0));
  const nt::MemoryCounters m = nt::read_memory_counters(c.world.target());
  // At 99.8 % the next larger allocation fails.
  const bool commit_full = m.committed && m.commit_limit && *m.commit_limit > kPagesPerMib &&
                           *m.committed <= *m.commit_limit + *m.commit_limit / 8 &&
                           *m.committed >= *m.commit_limit - *m.commit_limit / 512;
  if (waiting.empty() && !commit_full) return;
  Finding f{.rule = "memory-exhaustion", .verdict = "memory-exhaustion", .confidence = Confidence::derived};
  f.longest_ms = longest;
  f.title = waiting.empty()
                ? fmt::format("commit is full: {} of {} are committed, allocations fail", mib(*m.committed),
                              mib(*m.commit_limit))
                : fmt::format("{} for free memory, the longest for {}",
                              counted(waiting.size(), "thread waits", "threads wait"), duration(longest));
  if (const size_t more = suffering.size() - waiting.size(); !waiting.empty() && more != 0)
    f.title += fmt::format("; {} behind them", counted(more, "more thread waits", "more threads wait"));
  constexpr size_t kMostShown = 5;
  for (size_t i = 0; i < waiting.size() && i < kMostShown; i++) {
    const ThreadNode* t = c.world.thread(waiting[i]);
    f.evidence.push_back(c.about_thread(
        waiting[i],
        fmt::format("{} waits {} with reason {}", c.who(waiting[i]),
                    duration(t->thread.waited_ms.value_or(0)), nt::wait_reason_name(t->thread.wait_reason)),
        Confidence::exact));
  }
  const Confidence from_symbols =
      c.world.target().layouts().exact() != nullptr ? Confidence::exact : Confidence::derived;
  if (m.available)
    f.evidence.push_back({.text = fmt::format("available memory: {}{}", mib(*m.available),
                                              m.physical ? fmt::format(" of {}", mib(*m.physical)) : ""),
                          .confidence = from_symbols,
                          .reads = {},
                          .check = "!vm 1"});
  if (m.committed && m.commit_limit)
    f.evidence.push_back({.text = fmt::format("committed: {} of {}", mib(*m.committed), mib(*m.commit_limit)),
                          .confidence = from_symbols,
                          .reads = {},
                          .check = "!vm 1"});
  for (size_t i = 0; i < m.tags.size() && i < 3; i++)
    f.evidence.push_back({.text = fmt::format("pool tag {}: {} KiB nonpaged, {} KiB paged", m.tags[i].tag,
                                              m.tags[i].nonpaged_bytes / 1024, m.tags[i].paged_bytes / 1024),
                          .confidence = from_symbols,
                          .reads = {},
                          .check = "!poolused 4"});
  // The process with the most private memory is the first to look at.
  const ProcessNode* largest = nullptr;
  for (const ProcessNode& p : c.world.processes)
    if (largest == nullptr || p.process.commit_pages > largest->process.commit_pages) largest = &p;
  constexpr u64 kImpossible = u64{1} << 36;
  if (largest != nullptr && largest->process.commit_pages > kPagesPerMib &&
      largest->process.commit_pages < kImpossible) {
    f.culprit.process = largest->process.name;
    f.culprit.pid = largest->process.pid;
    f.evidence.push_back({.text = fmt::format("{} ({}) has committed the most: {}", largest->process.name,
                                              largest->process.pid, mib(largest->process.commit_pages)),
                          .confidence = Confidence::derived,
                          .reads = {},
                          .check = fmt::format("!process {} 1", largest->process.address)});
  }
  if (!waiting.empty()) f.chain = c.chain_to(waiting.front());
  const bool process = !f.culprit.process.empty(), tags = !m.tags.empty();
  f.advice = {
      fmt::format("See who uses the memory{} (`poolmon` in the guest shows pool by tag, pooltag.txt says "
                  "whose a tag is).",
                  process && tags ? ": the process and the pool tags named above"
                  : process       ? ": the process named above, or pool"
                  : tags          ? ": the pool tags named above"
                                  : ""),
      "A balloon that took too much shows the same from outside: `virsh dommemstat DOMAIN`, `virsh "
      "setmem`. A page file that is too small or on a full disk makes it worse."};
  f.on_symptom = !waiting.empty() && c.touches_entry(waiting.front(), suffering);
  // Dirty pages become free ones when the disk has taken them: while it takes none, it is the cause.
  const std::vector<PendingAt> disks = disk_requests(c);
  const bool disk_first = !waiting.empty() && std::any_of(disks.begin(), disks.end(), writes_stall);
  if (disk_first) {
    f.confidence = Confidence::heuristic;
    f.advice.insert(
        f.advice.begin(),
        "Look at the disk first (the io-stall above): what it does not take does not become free.");
  }
  f.score = (waiting.empty() ? 8 : disk_first ? 0 : 28) + c.weight(suffering);
  f.waiting = std::move(suffering);
  findings.push_back(std::move(f));
}

}  // namespace

extern const Rule memory_exhaustion_rule;
const Rule memory_exhaustion_rule{.name = "memory-exhaustion", .find = find};

}  // namespace unhang::diagnose
