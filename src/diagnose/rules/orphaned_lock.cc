// A lock whose owner is gone: the thread has ended, or what stands there is no thread. Nobody will release
// it. Or an answer that a thread owes which has ended: nobody will give it.
#include <algorithm>

#include "base/format.h"
#include "diagnose/rule.h"

namespace unhang::diagnose {

namespace {

// Who must be restarted, and what finds the culprit next time.
std::vector<std::string> advice_for(const Context& c, const Lock& lock,
                                    const std::vector<VirtAddr>& suffering) {
  if (!lock.process.is_null())
    return {
        fmt::format("A thread of {} ended while it held the lock, which is that process's own: restarting "
                    "the process releases it, the guest need not.",
                    processes_of(c.world, suffering)),
        "Application Verifier (Locks) on that program finds who leaves locks behind; TerminateThread is the "
        "usual cause."};
  if (std::string_view(lock.kind) == "Mutant")
    return {
        fmt::format("A thread ended and its mutex was not given to the next one. Restart the programs that "
                    "wait for it: {}; the guest, if that does not help.",
                    processes_of(c.world, suffering))};
  return {"A driver left the lock held when its thread ended: only restarting the guest releases it.",
          "Driver Verifier with deadlock detection (verifier /flags 0x20) finds who leaves locks behind."};
}

void orphaned_locks(Context& c, std::vector<Finding>& findings) {
  for (const Lock& lock : c.world.locks) {
    if (lock.waiters.empty() || lock.owners.empty()) continue;
    const bool all_gone = std::all_of(lock.owners.begin(), lock.owners.end(),
                                      [](const waits::LockOwner& o) { return !o.alive; });
    if (!all_gone) continue;
    Finding f{.rule = "orphaned-lock", .verdict = "orphaned-lock", .confidence = lock.confidence};
    std::vector<VirtAddr> waiters;
    for (const waits::LockWaiter& w : lock.waiters) {
      waiters.push_back(w.thread);
      f.longest_ms = std::max(f.longest_ms, w.waited_ms.value_or(0));
    }
    std::vector<VirtAddr> suffering = c.graph.with_behind(std::move(waiters));
    const VirtAddr owner = lock.owners.front().thread;
    const u64 tid = lock.owners.front().tid;
    const ThreadNode* t = c.world.thread(owner);
    const bool terminated = t != nullptr && t->thread.terminated();
    const std::string who = tid != 0 ? fmt::format("thread id {} ({:#x})", tid, tid) : c.who(owner);
    // A thread that cannot be read may be one whose page is missing from the dump.
    if (!terminated && tid == 0) f.confidence = weaker(f.confidence, Confidence::heuristic);
    const std::string name = !lock.protects.empty() ? lock.protects.front() : lock.name;
    f.title = fmt::format("{} {}{} is held by {}, which {}; {} for it", lock.kind, lock.address,
                          name.empty() ? "" : " (" + name + ")", who,
                          terminated ? "has ended"
                          : tid != 0 ? "is no thread of the process any more"
                                     : "is no thread",
                          counted(suffering.size(), "thread waits", "threads wait"));
    f.culprit = c.culprit(owner);
    f.culprit.file = lock.protects.empty() ? "" : lock.protects.front();
    ChainLink link{.object = lock.address,
                   .kind = lock.kind,
                   .name = name,
                   .mode = lock.mode,
                   .owner = owner,
                   .longest_ms = f.longest_ms,
                   .confidence = f.confidence};
    for (const waits::LockWaiter& w : lock.waiters) link.waiters.push_back(w.thread);
    f.chain.push_back(std::move(link));
    f.evidence.push_back(
        c.about_lock(lock,
                     fmt::format("{} {} is held{}{} by {} and has {}, the longest for {}", lock.kind,
                                 lock.address, *lock.mode == 0 ? "" : " ", lock.mode, who,
                                 counted(lock.waiters.size(), "waiter", "waiters"), duration(f.longest_ms)),
                     f.confidence));
    if (terminated)
      f.evidence.push_back(c.about_thread(owner, fmt::format("{} has ended (state Terminated)", c.who(owner)),
                                          Confidence::exact));
    f.advice = advice_for(c, lock, suffering);
    f.on_symptom = c.touches_entry(owner, suffering);
    f.score = 40 + c.weight(suffering);
    f.waiting = std::move(suffering);
    findings.push_back(std::move(f));
  }
}

// The message of an ALPC request names the thread that took it. That nothing takes such a name back when the
// thread ends is seen in made machines only: never surer than heuristic.
void lost_answers(Context& c, std::vector<Finding>& findings) {
  constexpr u64 kLongMs = 2000;
  for (const VirtAddr head : c.graph.heads()) {
    const ThreadNode* t = c.world.thread(head);
    if (t == nullptr || !t->thread.terminated()) continue;
    const waits::Behind behind = c.graph.behind(head);
    std::vector<ChainLink> chain = c.chain_to(head);
    if (chain.empty() || chain.back().kind != "ALPC" || behind.longest_ms < kLongMs) continue;
    Finding f{.rule = "orphaned-lock",
              .verdict = "orphaned-lock",
              .confidence = weaker(behind.weakest, Confidence::heuristic),
              .chain = std::move(chain)};
    f.culprit = c.culprit(head);
    f.waiting = behind.threads;
    f.longest_ms = behind.longest_ms;
    f.title = fmt::format(
        "{} must answer {} and has ended: the answer will not come; {} behind it, the longest "
        "for {}",
        c.who(head), held_thing(f.chain.back()),
        counted(behind.threads.size(), "thread waits", "threads wait"), duration(behind.longest_ms));
    f.evidence.push_back(
        c.about_thread(head, fmt::format("{} has ended (state Terminated)", c.who(head)), Confidence::exact));
    f.advice = {
        "Restart the programs that wait, and the one that ended a thread in the middle of a request: its "
        "maker "
        "can tell why."};
    f.on_symptom = c.touches_entry(head, behind.threads);
    f.score = 5 + c.weight(behind.threads);
    findings.push_back(std::move(f));
  }
}

void find(Context& c, std::vector<Finding>& findings) {
  orphaned_locks(c, findings);
  lost_answers(c, findings);
}

}  // namespace

extern const Rule orphaned_lock_rule;
const Rule orphaned_lock_rule{.name = "orphaned-lock", .find = find};

}  // namespace unhang::diagnose
