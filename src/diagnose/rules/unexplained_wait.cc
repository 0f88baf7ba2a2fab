// Threads queue behind a kernel lock whose owner itself waits for something that nobody in the dump can be
// named for: an event, an answer. The chain's head is known, its reason is not.
#include <algorithm>

#include "base/format.h"
#include "diagnose/rule.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kLongMs = 2000;

// Programs wait for mutexes of other programs for hours by design; nobody holds a kernel lock that long.
bool kernel_lock(const std::string& kind) {
  return kind != "Mutant" && kind != "Thread" && kind != "ProcessObject";
}

void find(Context& c, std::vector<Finding>& findings) {
  for (const VirtAddr head : c.graph.heads()) {
    const ThreadNode* t = c.world.thread(head);
    const waits::WaitNature nature = t == nullptr ? waits::WaitNature::event : t->nature();
    if (t != nullptr &&
        (!t->waiting() || nature == waits::WaitNature::io || nature == waits::WaitNature::lock))
      continue;
    const waits::Behind behind = c.graph.behind(head);
    if (behind.longest_ms < kLongMs) continue;
    std::vector<ChainLink> chain = c.chain_to(head);
    if (chain.empty() || !kernel_lock(chain.back().kind)) continue;
    Finding f{.rule = "unexplained-wait",
              .verdict = "unknown",
              .confidence = weaker(behind.weakest, Confidence::heuristic),
              .chain = std::move(chain)};
    f.culprit = c.culprit(head);
    f.waiting = behind.threads.size();
    f.longest_ms = behind.longest_ms;
    std::string what = "waits for something that the dump does not explain";
    if (t == nullptr)
      what = "cannot be read";
    else if (!t->waits.empty())
      what = fmt::format("waits for a {} ({})", t->waits.front().kind, t->waits.front().detail);
    f.title = fmt::format("{} holds {} and {}; {} behind it, the longest for {}", c.who(head),
                          f.chain.back().name.empty() ? f.chain.back().kind : f.chain.back().name, what,
                          counted(behind.threads.size(), "thread waits", "threads wait"),
                          duration(behind.longest_ms));
    f.evidence.push_back(c.about_thread(head, fmt::format("{} {}", c.who(head), what), Confidence::exact));
    f.advice = {
        "Look at the stack of that thread: the functions between the lock and the wait say what it waits "
        "for. A second dump ten seconds later tells "
        "whether it still waits for the same."};
    f.on_symptom = c.touches_entry(head, behind.threads);
    f.score = 5 + c.weight(behind.threads);
    findings.push_back(std::move(f));
  }
}

}  // namespace

extern const Rule unexplained_wait_rule;
const Rule unexplained_wait_rule{.name = "unexplained-wait", .find = find};

}  // namespace unhang::diagnose
