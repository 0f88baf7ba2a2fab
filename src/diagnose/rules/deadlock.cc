// A cycle of waits: nobody in it can ever go on.
#include <algorithm>

#include "base/format.h"
#include "diagnose/rule.h"

namespace unhang::diagnose {

namespace {

void find(Context& c, std::vector<Finding>& findings) {
  for (const std::vector<VirtAddr>& cycle : c.graph.cycles()) {
    Finding f{.rule = "deadlock", .verdict = "deadlock"};
    std::string story;
    std::vector<VirtAddr> suffering = cycle;
    bool all_wait = true, resources = false, loader_lock = false;
    for (size_t i = 0; i < cycle.size(); i++) {
      const VirtAddr from = cycle[i], to = cycle[(i + 1) % cycle.size()];
      const waits::Edge* edge = nullptr;
      for (const waits::Edge* e : c.graph.out(from))
        if (e->to == to && (edge == nullptr || e->confidence < edge->confidence)) edge = e;
      if (edge == nullptr) continue;
      f.confidence = weaker(f.confidence, edge->confidence);
      const ThreadNode* t = c.world.thread(from);
      if (t == nullptr || !t->waiting()) all_wait = false;
      const u64 waited = t == nullptr ? 0 : t->thread.waited_ms.value_or(0);
      const Lock* lock = c.world.lock(edge->object, from);
      const std::string name = lock == nullptr           ? ""
                               : !lock->protects.empty() ? lock->protects.front()
                                                         : lock->name;
      ChainLink link{.waiters = {from},
                     .object = edge->object,
                     .kind = edge->kind,
                     .name = name,
                     .mode = lock == nullptr ? "" : lock->mode,
                     .owner = to,
                     .longest_ms = waited,
                     .confidence = edge->confidence};
      resources |= std::string_view(edge->kind) == "ERESOURCE";
      loader_lock |= name.starts_with("loader lock");
      const std::string text =
          fmt::format("{} waits {} for {} {}{}, {}", c.who(from), duration(waited), edge->kind, edge->object,
                      name.empty() ? "" : fmt::format(" ({})", name), owes(edge->kind, c.who(to)));
      f.evidence.push_back(c.about_thread(from, text, edge->confidence));
      f.chain.push_back(std::move(link));
      f.longest_ms = std::max(f.longest_ms, waited);
      story += (i == 0 ? "" : " -> ") + c.who(from);
      for (const VirtAddr b : c.graph.behind(from).threads)
        if (std::find(suffering.begin(), suffering.end(), b) == suffering.end()) suffering.push_back(b);
    }
    // A thread of the cycle that runs is a contradiction: a smear of a running guest, or a stale list.
    if (!all_wait) {
      f.confidence = weaker(f.confidence, Confidence::heuristic);
      f.evidence.push_back({.text = "not every thread of the cycle is waiting: the dump may be torn",
                            .confidence = Confidence::exact});
    }
    // Who took the last lock cannot be seen; the longest waiter was caught first.
    const auto first = std::max_element(cycle.begin(), cycle.end(), [&](VirtAddr a, VirtAddr b) {
      const ThreadNode *ta = c.world.thread(a), *tb = c.world.thread(b);
      return (ta == nullptr ? 0 : ta->thread.waited_ms.value_or(0)) <
             (tb == nullptr ? 0 : tb->thread.waited_ms.value_or(0));
    });
    f.culprit = c.culprit(*first);
    f.cycles.push_back(cycle);
    f.waiting = suffering.size();
    f.title = fmt::format(
        "deadlock of {} threads: {} -> back to {}{}", cycle.size(), story, c.who(cycle.front()),
        suffering.size() > cycle.size()
            ? fmt::format("; {} behind it",
                          counted(suffering.size() - cycle.size(), "more thread waits", "more threads wait"))
            : "");
    f.advice = {
        "The threads wait for each other in a circle: no time-out and no faster disk resolves it. Restarting "
        "one of the processes, "
        "or the guest, does.",
        fmt::format("Send the stacks of the threads in the circle to the maker of the component that takes "
                    "the locks in different orders: "
                    "{}",
                    processes_of(c.world, cycle))};
    if (loader_lock)
      f.advice.push_back(
          "The loader lock is held while DLLs are loaded and unloaded and while their DllMain runs, and "
          "every "
          "thread that starts or ends needs it: a DllMain that waits for another thread or for a lock does "
          "this. The stack of the one that holds it names the DLL.");
    // Windows 10 and later write them (bug check code reference, 0x1CC).
    constexpr u32 kFirstWithReports = 10240;
    if (resources && c.world.target().build() >= kFirstWithReports)
      f.advice.push_back(
          "Look in C:\\Windows\\LiveKernelReports for EXRESOURCE_TIMEOUT dumps (0x1CC) of earlier "
          "occurrences.");
    f.on_symptom = c.touches_entry(cycle.front(), suffering);
    f.score = 50 + c.weight(suffering);
    findings.push_back(std::move(f));
  }
}

}  // namespace

extern const Rule deadlock_rule;
const Rule deadlock_rule{.name = "deadlock", .find = find};

}  // namespace unhang::diagnose
