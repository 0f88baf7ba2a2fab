#include "diagnose/diagnose.h"

#include <algorithm>

#include "base/format.h"
#include "rules.plugs.h"
#include "waits/stack_evidence.h"

namespace unhang::diagnose {

namespace {

// Nobody waits for these for hours by design, whatever of the lock itself can be read.
constexpr u64 kLongForLockMs = 10'000, kLongForUserLockMs = 2000;
bool waits_for_kernel_lock(u8 reason) {
  return reason == nt::kWrFastMutex || reason == nt::kWrGuardedMutex || reason == nt::kWrPushLock ||
         reason == nt::kWrResource;
}

// Threads that wait long for what may be a lock of a program, and whose user stacks are not there to tell.
size_t without_user_stack(const World& world) {
  return static_cast<size_t>(
      std::count_if(world.threads.begin(), world.threads.end(), [&](const ThreadNode& t) {
        const bool may_be_lock = t.thread.wait_reason == nt::kUserRequest ||
                                 t.thread.wait_reason == nt::kWrKeyedEvent ||
                                 t.thread.wait_reason == nt::kWrAlertByThreadId;
        if (!t.waiting() || !may_be_lock || t.thread.teb.is_null() ||
            t.nature() != waits::WaitNature::event || t.thread.waited_ms.value_or(0) < kLongForUserLockMs)
          return false;
        const auto words = waits::user_stack_words(world, t);
        return std::none_of(words.begin(), words.end(),
                            [](const waits::StackWord& w) { return !w.at.is_null(); });
      }));
}

Verdict without_findings(const World& world) {
  Verdict v;
  size_t waiting = 0, unexplained = 0;
  u64 longest = 0, longest_for_lock = 0;
  VirtAddr lock_waiter;
  for (const ThreadNode& t : world.threads) {
    if (!t.waiting()) continue;
    waiting++;
    if (const u64 ms = t.thread.waited_ms.value_or(0);
        waits_for_kernel_lock(t.thread.wait_reason) && ms > longest_for_lock) {
      longest_for_lock = ms;
      lock_waiter = t.thread.address;
    }
    const waits::WaitNature nature = t.nature();
    if (nature == waits::WaitNature::lock || nature == waits::WaitNature::request ||
        nature == waits::WaitNature::io) {
      unexplained++;
      longest = std::max(longest, t.thread.waited_ms.value_or(0));
    }
  }
  std::string missing;
  if (!whole_picture(world, missing)) {
    v.cls = "unknown";
    v.confidence = Confidence::guess;
    v.summary = fmt::format(
        "Nothing in what could be read explains a hang, but not everything could be read ({}).", missing);
    return v;
  }
  if (longest_for_lock >= kLongForLockMs) {
    v.cls = "unknown";
    v.confidence = Confidence::heuristic;
    v.summary = fmt::format(
        "{} has waited {} for a lock of the kernel (reason {}), which is not held so long for nothing, and "
        "who "
        "holds it was not found.",
        world.who(lock_waiter), duration(longest_for_lock),
        nt::wait_reason_name(world.thread(lock_waiter)->thread.wait_reason));
    return v;
  }
  v.cls = "no-hang";
  v.confidence = Confidence::derived;
  v.summary = fmt::format(
      "No hang found: of {} threads {} wait, {} of them for a lock, an answer or I/O{}, and nothing is stuck "
      "behind "
      "another thread, "
      "a device or a spinning processor.",
      world.threads.size(), waiting, unexplained,
      unexplained == 0 ? "" : fmt::format(" (at most {})", duration(longest)));
  if (const size_t blind = without_user_stack(world); blind != 0) {
    v.confidence = Confidence::guess;
    v.summary += fmt::format(
        " The user stacks of {} cannot be read: locks of programs that they wait for are not seen.",
        counted(blind, "waiting thread", "waiting threads"));
  }
  return v;
}

// A wait for a resource shows its last round only: what tells how long it really is.
void explain_resource_waits(const Context& c, Finding& f) {
  for (const ChainLink& link : f.chain) {
    if (link.kind != "ERESOURCE") continue;
    for (const VirtAddr w : link.waiters) {
      const ThreadNode* t = c.world.thread(w);
      const u64 own = t == nullptr ? 0 : t->thread.waited_ms.value_or(0), age = c.graph.held_up_ms(w);
      if (age <= own) continue;
      f.evidence.push_back(
          {.text = fmt::format("a wait for a resource begins anew every four seconds: {} shows {}, but whom "
                               "it waits for has not gone on for {}",
                               c.who(w), duration(own), duration(age)),
           .confidence = weaker(Confidence::derived, link.confidence),
           .reads = {},
           .check = fmt::format("!thread {}", w)});
      return;
    }
  }
}

}  // namespace

// What is missing may be just what hangs.
bool whole_picture(const World& world, std::string& missing) {
  size_t count = 0;
  for (const std::vector<Gap>* gaps : {&world.gaps, &world.target().gaps()})
    for (const Gap& g : *gaps)
      if (!g.minor && count++ == 0) missing = fmt::format("{}: {}", g.what, g.why);
  if (count > 1) missing += fmt::format("; and {} more", count - 1);
  if (count == 0 && world.processes.size() < 2) {
    missing = "no process list";
    count = 1;
  }
  return count == 0;
}

Diagnosis diagnose(World& world, const Options& options) {
  Diagnosis d;
  const Graph graph(world, options.entry_threads);
  Context context(world, graph, options);
  for (const Rule* rule : kRules) rule->find(context, d.findings);
  for (Finding& f : d.findings) explain_resource_waits(context, f);
  std::stable_sort(d.findings.begin(), d.findings.end(), [](const Finding& a, const Finding& b) {
    if (a.on_symptom != b.on_symptom) return a.on_symptom;
    return a.score != b.score ? a.score > b.score : a.longest_ms > b.longest_ms;
  });
  d.cycles = graph.cycles();
  for (const ThreadNode& t : world.threads) {
    const waits::Behind b = graph.behind(t.thread.address);
    if (!b.threads.empty())
      d.ranking.push_back({t.thread.address, b.threads.size(), b.longest_ms, context.weight(b.threads)});
  }
  std::stable_sort(d.ranking.begin(), d.ranking.end(), [](const Rank& a, const Rank& b) {
    return a.score != b.score ? a.score > b.score : a.longest_ms > b.longest_ms;
  });
  if (d.findings.empty()) {
    d.verdict = without_findings(world);
    return d;
  }
  if (const size_t blind = without_user_stack(world); blind != 0)
    world.gaps.push_back(
        {"user stacks", "",
         fmt::format("those of {} cannot be read: locks of programs that they wait for are not seen",
                     counted(blind, "waiting thread", "waiting threads")),
         true});
  const Finding& first = d.findings.front();
  d.verdict.cls = first.verdict;
  d.verdict.finding = 0;
  d.verdict.confidence = first.confidence;
  d.verdict.summary = first.title;
  if (!options.entry_threads.empty() && !first.on_symptom)
    d.verdict.summary += " (that the threads you named wait for this was not found)";
  return d;
}

}  // namespace unhang::diagnose
