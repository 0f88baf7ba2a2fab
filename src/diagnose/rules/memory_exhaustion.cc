// No memory is left: threads wait for free pages or for pool, or commit has reached its limit and every
// allocation fails.
#include <algorithm>

#include "base/format.h"
#include "diagnose/rule.h"
#include "nt/objects/memory_counters.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kLongMs = 1000;
constexpr u64 kPagesPerMib = 256;

// The modified and the mapped page writer and the thread that zeroes pages wait with reason WrFreePage for
// work, on every healthy machine: that is not a wait for free pages.
bool page_writer(const Context& c, const ThreadNode& t) {
  const ProcessNode* p = c.world.process_of(t);
  return p != nullptr && p->process.pid == nt::kSystemPid &&
         (t.thread.wait_reason == nt::kFreePage || t.thread.wait_reason == nt::kWrFreePage);
}

bool waits_for_memory(const Context& c, const ThreadNode& t) {
  if (!t.waiting() || page_writer(c, t)) return false;
  switch (t.thread.wait_reason) {
    case nt::kFreePage:
    case nt::kWrFreePage:
    case nt::kPoolAllocation:
    case nt::kWrPoolAllocation:
      return true;
    default:
      return false;
  }
}

std::string mib(u64 pages) {
  return fmt::format("{} MiB", pages / kPagesPerMib);
}

void find(Context& c, std::vector<Finding>& findings) {
  std::vector<VirtAddr> waiting, suffering;
  u64 longest = 0;
  for (const ThreadNode& t : c.world.threads)
    if (waits_for_memory(c, t) &&
        (t.thread.waited_ms.value_or(0) >= kLongMs || !c.world.clock().tick_count)) {
      waiting.push_back(t.thread.address);
      suffering.push_back(t.thread.address);
      for (const VirtAddr b : c.graph.behind(t.thread.address).threads) suffering.push_back(b);
      longest = std::max(longest, t.thread.waited_ms.value_or(0));
    }
  const nt::MemoryCounters m = nt::read_memory_counters(c.world.target());
  // At 99.8 % the next larger allocation fails.
  const bool commit_full = m.committed && m.commit_limit && *m.commit_limit > kPagesPerMib &&
                           *m.committed <= *m.commit_limit + *m.commit_limit / 8 &&
                           *m.committed >= *m.commit_limit - *m.commit_limit / 512;
  if (waiting.empty() && !commit_full) return;
  std::sort(suffering.begin(), suffering.end());
  suffering.erase(std::unique(suffering.begin(), suffering.end()), suffering.end());
  Finding f{.rule = "memory-exhaustion", .verdict = "memory-exhaustion", .confidence = Confidence::derived};
  f.waiting = suffering.size();
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
  const Confidence from_symbols = Confidence::exact;
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
  f.advice = {
      "See who uses the memory: the process and the pool tags named above (`poolmon` in the guest, "
      "pooltag.txt says whose a tag is).",
      "A balloon that took too much shows the same from outside: `virsh dommemstat DOMAIN`, `virsh "
      "setmem`. A page file that is too small or on a full disk makes it worse."};
  f.on_symptom = !waiting.empty() && c.touches_entry(waiting.front(), suffering);
  f.score = (waiting.empty() ? 8 : 28) + c.weight(suffering);
  findings.push_back(std::move(f));
}

}  // namespace

extern const Rule memory_exhaustion_rule;
const Rule memory_exhaustion_rule{.name = "memory-exhaustion", .find = find};

}  // namespace unhang::diagnose
