// Threads queue, and the chain breaks off: the one at its end waits for an event or an answer that nobody in
// the dump can be named for, or a lock is held by nobody who is known. The place is known, the reason is not.
#include <algorithm>
#include <map>

#include "base/format.h"
#include "diagnose/rule.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kLongMs = 2000;
constexpr u64 kHungWindowMs = 5000;  // when Windows itself says "Not responding"
// A place without a cause is worth less than a cause, and still less with nobody to look at.
constexpr double kOfACause = 0.5, kWithoutAnybody = 0.15;

// Kinds whose holder may be unknown although there is one.
bool holder_may_be_unknown(std::string_view kind) {
  return kind == "push lock" || kind == "SRW lock" || kind == "spin lock" || kind == "critical section" ||
         kind == "FAST_MUTEX" || kind == "KGUARDED_MUTEX" || kind == "ERESOURCE" || kind == "oplock" ||
         kind == "event" || kind == "ALPC" || kind == "window message";
}

// Ready, but for its kernel stack or its process, which must be read from the page file first.
bool swapped_out(const ThreadNode& t) {
  return t.thread.state == nt::ThreadState::transition ||
         t.thread.state == nt::ThreadState::waiting_for_process_in_swap;
}

void broken_chains(Context& c, std::vector<Finding>& findings) {
  for (const VirtAddr head : c.graph.heads()) {
    const ThreadNode* t = c.world.thread(head);
    if (t == nullptr && !c.world.alive(head)) continue;  // an orphaned lock's owner
    const waits::WaitNature nature = t == nullptr ? waits::WaitNature::event : t->nature();
    const bool swapped = t != nullptr && swapped_out(*t);
    if (t != nullptr && !swapped &&
        (!t->waiting() || nature == waits::WaitNature::io || nature == waits::WaitNature::lock ||
         nature == waits::WaitNature::suspended))
      continue;
    const waits::Behind behind = c.graph.behind(head);
    if (behind.impatient_ms < kLongMs) continue;
    std::vector<ChainLink> chain = c.chain_to(head);
    if (chain.empty()) continue;
    Finding f{.rule = "unexplained-wait",
              .verdict = "unknown",
              .confidence = weaker(behind.weakest, Confidence::heuristic),
              .chain = std::move(chain)};
    f.culprit = c.culprit(head);
    f.waiting = behind.threads;
    f.longest_ms = behind.longest_ms;
    std::string what = "waits for something that the dump does not explain";
    if (t == nullptr)
      what = "cannot be read";
    else if (swapped)
      what = fmt::format("could go on, but its stack or its process is swapped out (state {})",
                         nt::name(t->thread.state));
    else if (!t->waits.empty())
      what =
          fmt::format("waits for a {}{}", t->waits.front().kind,
                      t->waits.front().detail.empty() ? "" : fmt::format(" ({})", t->waits.front().detail));
    f.title = fmt::format(
        "{} {} and {}; {} behind it, the longest for {}", c.who(head), role_of(f.chain.back()), what,
        counted(behind.threads.size(), "thread waits", "threads wait"), duration(behind.longest_ms));
    f.evidence.push_back(c.about_thread(head, fmt::format("{} {}", c.who(head), what), Confidence::exact));
    if (auto e = c.why_holder(f.chain, head)) f.evidence.push_back(std::move(*e));
    if (!f.culprit.driver.empty())
      f.evidence.push_back(c.about_thread(
          head,
          fmt::format("the innermost driver on its stack is {}, which is not Windows' own", f.culprit.driver),
          Confidence::heuristic));
    f.advice = {
        "Look at the stack of that thread: the functions between the lock and the wait say what it waits "
        "for. A second dump ten seconds later tells "
        "whether it still waits for the same."};
    f.on_symptom = c.touches_entry(head, behind.threads);
    f.score = 5 + kOfACause * c.weight(behind.threads);
    findings.push_back(std::move(f));
  }
}

void unknown_holders(Context& c, std::vector<Finding>& findings) {
  struct Group {
    const waits::Edge* edge = nullptr;
    std::vector<VirtAddr> waiters;
  };
  std::map<std::pair<VirtAddr, VirtAddr>, Group> groups;  // process of user-mode locks, object
  for (const waits::Edge& e : c.world.edges) {
    const ThreadNode* t = c.world.thread(e.from);
    if (!e.to.is_null() || !holder_may_be_unknown(e.kind) || t == nullptr) continue;
    Group& g = groups[{is_kernel(e.object) ? VirtAddr() : t->thread.process, e.object}];
    g.edge = &e;
    g.waiters.push_back(e.from);
  }
  for (const auto& [key, g] : groups) {
    const std::string_view kind = g.edge->kind;
    Finding f{.rule = "unexplained-wait", .verdict = "unknown", .confidence = Confidence::heuristic};
    ChainLink link{.waiters = g.waiters, .object = g.edge->object, .kind = g.edge->kind};
    std::vector<VirtAddr> suffering = c.graph.with_behind(g.waiters);
    for (const VirtAddr w : g.waiters) f.longest_ms = std::max(f.longest_ms, c.graph.held_up_ms(w));
    // A client may wait for its server as long as it likes, and an event is signalled when it is; what
    // counts is who is behind.
    const bool ordinary = kind == "ALPC" || kind == "event" || kind == "oplock" ||
                          (kind == "SRW lock" && g.edge->confidence >= Confidence::heuristic);
    const bool window = kind == "window message";
    if (f.longest_ms < (window ? kHungWindowMs : kLongMs) ||
        (ordinary && suffering.size() == g.waiters.size()))
      continue;
    // An orphaned lock has a rule of its own.
    const Lock* lock = c.world.lock(g.edge->object, g.edge->from);
    if (lock != nullptr && std::ranges::any_of(lock->owners, [](const auto& o) { return !o.alive; }))
      continue;
    link.longest_ms = f.longest_ms;
    link.confidence = g.edge->confidence;
    if (lock != nullptr) link.name = !lock->protects.empty() ? lock->protects.front() : lock->name;
    f.chain = c.chain_to(g.waiters.front());
    f.chain.push_back(link);
    if (!g.edge->candidates.empty()) {
      const waits::Candidate& first = g.edge->candidates.front();
      f.culprit = c.culprit(first.thread);
      f.confidence = g.edge->candidates.size() == 1 ? first.confidence : Confidence::guess;
    }
    const size_t behind = suffering.size() - g.waiters.size();
    f.title = fmt::format("{} for {} {}{}, the longest for {}{}; who must end that is not recorded: {}",
                          counted(g.waiters.size(), "thread waits", "threads wait"), kind, g.edge->object,
                          link.name.empty() ? "" : fmt::format(" ({})", link.name), duration(f.longest_ms),
                          behind == 0 ? "" : fmt::format(", {} behind", counted(behind, "more", "more")),
                          g.edge->candidates.empty()
                              ? std::string("no candidate was found")
                              : counted(g.edge->candidates.size(), "candidate", "candidates"));
    f.evidence.push_back(c.about_thread(
        g.edge->from, fmt::format("{}: {}", c.who(g.edge->from), g.edge->note), g.edge->confidence));
    for (const waits::Candidate& x : g.edge->candidates)
      f.evidence.push_back(
          c.about_thread(x.thread, fmt::format("candidate {}: {}", c.who(x.thread), x.why), x.confidence));
    f.advice = {
        window ? "The candidates have windows in the same session and take no messages now: look at their "
                 "stacks; the one that has been stuck as long is the program that does not respond."
               : "Look at the stacks of the candidates: the one inside of the component that uses this lock "
                 "is the holder. A second dump ten seconds later shows who still is."};
    f.on_symptom = c.touches_entry(g.waiters.front(), suffering);
    f.score = 4 + (g.edge->candidates.empty() ? kWithoutAnybody : kOfACause) * c.weight(suffering);
    f.waiting = std::move(suffering);
    findings.push_back(std::move(f));
  }
}

void find(Context& c, std::vector<Finding>& findings) {
  broken_chains(c, findings);
  unknown_holders(c, findings);
}

}  // namespace

extern const Rule unexplained_wait_rule;
const Rule unexplained_wait_rule{.name = "unexplained-wait", .find = find};

}  // namespace unhang::diagnose
