// Threads queue behind one that is suspended: it will not go on until somebody resumes it.
#include <algorithm>
#include <set>

#include "base/format.h"
#include "diagnose/rule.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kLongMs = 2000;

void find(Context& c, std::vector<Finding>& findings) {
  std::set<VirtAddr> seen;
  for (const VirtAddr head : c.graph.heads()) {
    const ThreadNode* t = c.world.thread(head);
    if (t == nullptr || t->nature() != waits::WaitNature::suspended) continue;
    const waits::Behind behind = c.graph.behind(head);
    if (behind.longest_ms < kLongMs && c.world.clock().tick_count) continue;
    Finding f{.rule = "suspended-owner",
              .verdict = "suspended-owner",
              .confidence = behind.weakest,
              .chain = c.chain_to(head)};
    // Any worker of a server may answer: with its process they are all suspended.
    if (!f.chain.empty() && f.chain.back().kind == "ALPC" && !seen.insert(f.chain.back().object).second)
      continue;
    f.culprit = c.culprit(head);
    f.waiting = behind.threads;
    f.longest_ms = behind.longest_ms;
    f.title = fmt::format("{} is suspended and {}; {} behind it, the longest for {}", c.who(head),
                          f.chain.empty() ? "holds what others wait for" : role_of(f.chain.back()),
                          counted(behind.threads.size(), "thread waits", "threads wait"),
                          duration(behind.longest_ms));
    f.evidence.push_back(c.about_thread(
        head,
        fmt::format("{} waits with reason {}, SuspendCount {}{}", c.who(head),
                    nt::wait_reason_name(t->thread.wait_reason), t->thread.suspend_count,
                    t->thread.waited_ms ? fmt::format(", for {}", duration(*t->thread.waited_ms)) : ""),
        Confidence::exact));
    for (const waits::Held& h : c.graph.held_by(head))
      if (const Lock* lock = c.world.lock(h.object, head))
        f.evidence.push_back(
            c.about_lock(*lock,
                         fmt::format("{} {}{} is held by it; {} for it", lock->kind, lock->address,
                                     lock->name.empty() ? "" : " " + lock->name,
                                     counted(lock->waiters.size(), "thread waits", "threads wait")),
                         lock->confidence));
    if (auto e = c.why_holder(f.chain, head)) f.evidence.push_back(std::move(*e));
    f.advice = {
        "Somebody suspended the thread or its process: a debugger, a dump or backup tool, a job, the "
        "task manager. Resume it, or end the process.",
        "Security products suspend processes that they inspect: look at their logs at that time."};
    f.on_symptom = c.touches_entry(head, behind.threads);
    f.score = 30 + c.weight(behind.threads);
    findings.push_back(std::move(f));
  }
}

}  // namespace

extern const Rule suspended_owner_rule;
const Rule suspended_owner_rule{.name = "suspended-owner", .find = find};

}  // namespace unhang::diagnose
