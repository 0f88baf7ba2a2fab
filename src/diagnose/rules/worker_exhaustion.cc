// Work is queued and every worker of the queue waits: nothing that is queued will be done until one of them
// comes back. What the workers wait for is the cause.
#include <algorithm>
#include <map>

#include "base/format.h"
#include "diagnose/rule.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kLongMs = 2000;

bool blocked(const ThreadNode& t) {
  switch (t.nature()) {
    case waits::WaitNature::lock:
    case waits::WaitNature::request:
    case waits::WaitNature::io:
    case waits::WaitNature::event:
    case waits::WaitNature::suspended:
      return t.waiting();
    default:
      return false;
  }
}

// The end of the chain that a thread waits in: itself when it waits for nobody.
VirtAddr head_of(const Graph& graph, VirtAddr thread) {
  std::vector<VirtAddr> seen;
  for (;;) {
    if (std::find(seen.begin(), seen.end(), thread) != seen.end()) return thread;
    seen.push_back(thread);
    const auto out = graph.out(thread);
    if (out.empty()) return thread;
    thread = out.front()->to;
  }
}

void find(Context& c, std::vector<Finding>& findings) {
  for (const waits::QueueNode& q : c.world.queues) {
    if (q.queue.entries.empty() || q.workers.empty() || !q.idle.empty()) continue;
    std::vector<VirtAddr> suffering;
    std::map<VirtAddr, std::vector<VirtAddr>> by_head;
    bool all_blocked = true, whole = true;
    u64 longest = 0, shortest = ~u64{0};
    for (const VirtAddr w : q.workers) {
      const ThreadNode* t = c.world.thread(w);
      if (t == nullptr || !blocked(*t)) {
        all_blocked = false;
        break;
      }
      whole &= t->stack.kernel_whole();
      const u64 waited = t->thread.waited_ms.value_or(0);
      longest = std::max(longest, waited);
      shortest = std::min(shortest, waited);
      by_head[head_of(c.graph, w)].push_back(w);
      suffering.push_back(w);
      for (const VirtAddr b : c.graph.behind(w).threads) suffering.push_back(b);
    }
    // The one that began to wait last says since when nobody works.
    if (!all_blocked || (shortest < kLongMs && c.world.clock().tick_count)) continue;
    std::sort(suffering.begin(), suffering.end());
    suffering.erase(std::unique(suffering.begin(), suffering.end()), suffering.end());
    const auto cause = std::max_element(by_head.begin(), by_head.end(), [](const auto& a, const auto& b) {
      return a.second.size() < b.second.size();
    });
    const VirtAddr head = cause->first;
    Finding f{.rule = "worker-exhaustion", .verdict = "worker-exhaustion", .confidence = Confidence::derived};
    f.culprit = c.culprit(head);
    f.chain = c.chain_to(head);
    f.confidence = weaker(f.confidence, c.graph.behind(head).weakest);
    // A stack that is not there may hold what the worker really waits for.
    if (const ThreadNode* t = c.world.thread(head); !whole || t == nullptr || !t->stack.kernel_whole())
      f.confidence = Confidence::guess;
    f.waiting = suffering.size();
    f.longest_ms = longest;
    const bool itself = cause->second.size() == 1 && cause->second.front() == head;
    f.title = fmt::format("all {} of {} wait and {} behind them; {}",
                          counted(q.workers.size(), "worker", "workers"), q.name,
                          counted(q.queue.entries.size(), "item is queued", "items are queued"),
                          itself ? fmt::format("{} has waited for {}", c.who(head), duration(longest))
                                 : fmt::format("{} of them wait for {}", cause->second.size(), c.who(head)));
    f.evidence.push_back(
        {.text = fmt::format("{}: {} bound to it, none waits for work; {} queued; all of them have "
                             "waited for {} to {}",
                             q.name, counted(q.workers.size(), "thread is", "threads are"),
                             q.queue.entries.size(), duration(shortest), duration(longest)),
         .confidence = Confidence::derived,
         .reads = {},
         .check = q.executive ? "!exqueue" : fmt::format("dt nt!_KQUEUE {}", q.queue.address)});
    if (q.queue.most_threads > 0 && q.queue.threads >= q.queue.most_threads)
      f.evidence.push_back({.text = fmt::format("the queue has {} of at most {} threads: no more are made",
                                                q.queue.threads, q.queue.most_threads),
                            .confidence = Confidence::derived,
                            .reads = {},
                            .check = "!exqueue"});
    constexpr size_t kMostShown = 4;
    for (size_t i = 0; i < q.queue.entries.size() && i < kMostShown && q.executive; i++)
      if (const auto item = nt::read_work_item(c.world.target(), q.queue.entries[i])) {
        const std::string routine = c.world.target().symbolize(item->routine);
        if (!routine.empty())
          f.evidence.push_back({.text = fmt::format("queued: {} ({})", item->address, routine),
                                .confidence = Confidence::derived,
                                .reads = {},
                                .check = fmt::format("dt nt!_WORK_QUEUE_ITEM {}", item->address)});
      }
    for (size_t i = 0; i < cause->second.size() && i < kMostShown; i++) {
      const ThreadNode* t = c.world.thread(cause->second[i]);
      f.evidence.push_back(c.about_thread(
          cause->second[i],
          fmt::format(
              "worker {} waits {}{}", c.who(cause->second[i]), duration(t->thread.waited_ms.value_or(0)),
              t->waits.empty() ? ""
                               : fmt::format(" for {}: {}", t->waits.front().kind, t->waits.front().detail)),
          t->waits.empty() ? Confidence::exact : t->waits.front().confidence));
    }
    f.advice = {
        fmt::format("Look at what {} does: the workers come back when it does.", c.who(head)),
        "Adding workers only helps until they wait for the same; a driver that blocks in a worker for long "
        "is the thing to mend.",
        "Windows writes a live kernel report IO_THREADPOOL_DEADLOCK (0x1C5) when it sees this: look in "
        "C:\\Windows\\LiveKernelReports."};
    f.on_symptom = c.touches_entry(head, suffering);
    f.score = (q.executive ? 35 : 18) + c.weight(suffering);
    findings.push_back(std::move(f));
  }
}

}  // namespace

extern const Rule worker_exhaustion_rule;
const Rule worker_exhaustion_rule{.name = "worker-exhaustion", .find = find};

}  // namespace unhang::diagnose
