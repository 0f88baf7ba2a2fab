// Work is queued and every worker of the queue waits: nothing that is queued will be done until one of them
// comes back. What the workers wait for is the cause.
#include <algorithm>
#include <map>
#include <optional>

#include "base/format.h"
#include "diagnose/rule.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kLongMs = 2000;
constexpr size_t kMostShown = 4;

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

// The workers of a queue that all wait.
struct Stuck {
  std::map<VirtAddr, std::vector<VirtAddr>> by_head;  // whom they wait for in the end
  std::vector<VirtAddr> suffering;                    // they and those behind them
  bool whole = true;                                  // every stack can be seen
  u64 longest_ms = 0, shortest_ms = ~u64{0};          // as Graph::held_up_ms
  u64 shown_from_ms = ~u64{0}, shown_to_ms = 0;       // their own waits
};

// Nothing when a worker is free or may come back by itself.
std::optional<Stuck> stuck_workers(const Context& c, const waits::QueueNode& q) {
  if (q.queue.entries.empty() || q.workers.empty() || !q.idle.empty()) return std::nullopt;
  Stuck s;
  for (const VirtAddr w : q.workers) {
    const ThreadNode* t = c.world.thread(w);
    if (t == nullptr || !blocked(*t)) return std::nullopt;
    s.whole &= t->stack.kernel_whole();
    const u64 waited = c.graph.held_up_ms(w);
    s.longest_ms = std::max(s.longest_ms, waited);
    s.shortest_ms = std::min(s.shortest_ms, waited);
    const u64 shown = t->thread.waited_ms.value_or(0);
    s.shown_from_ms = std::min(s.shown_from_ms, shown);
    s.shown_to_ms = std::max(s.shown_to_ms, shown);
    s.by_head[head_of(c.graph, w)].push_back(w);
  }
  // The one that began to wait last says since when nobody works.
  if (s.shortest_ms < kLongMs && c.world.clock().tick_count) return std::nullopt;
  s.suffering = c.graph.with_behind(q.workers);
  return s;
}

void describe_queue(const Context& c, const waits::QueueNode& q, const Stuck& s, Finding& f) {
  f.evidence.push_back(
      {.text = fmt::format("{}: {} bound to it, none waits for work; {} queued; all of them have "
                           "waited for {} to {}",
                           q.name, counted(q.workers.size(), "thread is", "threads are"),
                           q.queue.entries.size(), duration(s.shown_from_ms), duration(s.shown_to_ms)),
       .confidence = Confidence::derived,
       .reads = {},
       .check = q.executive ? "!exqueue" : fmt::format("dt nt!_KQUEUE {}", q.queue.address)});
  if (q.queue.most_threads > 0 && q.queue.threads >= q.queue.most_threads)
    f.evidence.push_back({.text = fmt::format("the queue has {} of at most {} threads: no more are made",
                                              q.queue.threads, q.queue.most_threads),
                          .confidence = Confidence::derived,
                          .reads = {},
                          .check = "!exqueue"});
  for (size_t i = 0; i < q.queue.entries.size() && i < kMostShown && q.executive; i++)
    if (const auto item = nt::read_work_item(c.world.target(), q.queue.entries[i])) {
      const std::string routine = c.world.target().symbolize(item->routine);
      if (!routine.empty())
        f.evidence.push_back({.text = fmt::format("queued: {} ({})", item->address, routine),
                              .confidence = Confidence::derived,
                              .reads = {},
                              .check = fmt::format("dt nt!_WORK_QUEUE_ITEM {}", item->address)});
    }
}

// " for SynchronizationEvent: who signals it is not recorded", or nothing.
std::string thing_waited_for(const ThreadNode* t) {
  if (t == nullptr || !t->waiting() || t->waits.empty()) return "";
  const waits::Wait& w = t->waits.front();
  return w.detail.starts_with(w.kind) ? " for " + w.detail : fmt::format(" for {}: {}", w.kind, w.detail);
}

Evidence about_worker(const Context& c, VirtAddr worker) {
  const ThreadNode* t = c.world.thread(worker);
  return c.about_thread(worker,
                        fmt::format("worker {} waits {}{}", c.who(worker),
                                    duration(t->thread.waited_ms.value_or(0)), thing_waited_for(t)),
                        t->waits.empty() ? Confidence::exact : t->waits.front().confidence);
}

Finding finding_of(const Context& c, const waits::QueueNode& q, const Stuck& s) {
  const auto& [head, held_up] =
      *std::max_element(s.by_head.begin(), s.by_head.end(),
                        [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  Finding f{.rule = "worker-exhaustion",
            .verdict = "worker-exhaustion",
            .confidence = weaker(Confidence::derived, c.graph.behind(head).weakest)};
  // A stack that is not there may hold what the worker really waits for.
  if (const ThreadNode* t = c.world.thread(head); !s.whole || t == nullptr || !t->stack.kernel_whole())
    f.confidence = Confidence::guess;
  f.culprit = c.culprit(head);
  f.chain = c.chain_to(head);
  f.waiting = s.suffering;
  f.longest_ms = s.longest_ms;
  const std::string what = thing_waited_for(c.world.thread(head));
  const bool itself = held_up.size() == 1 && held_up.front() == head;
  f.title =
      fmt::format("all {} of {} wait and {} behind them; {}", counted(q.workers.size(), "worker", "workers"),
                  q.name, counted(q.queue.entries.size(), "item is queued", "items are queued"),
                  itself ? fmt::format("{} has waited {}{}", c.who(head), duration(s.longest_ms), what)
                         : fmt::format("{} of them wait for {}{}", held_up.size(), c.who(head),
                                       what.empty() ? "" : fmt::format(", which waits{}", what)));
  describe_queue(c, q, s, f);
  for (size_t i = 0; i < held_up.size() && i < kMostShown; i++)
    f.evidence.push_back(about_worker(c, held_up[i]));
  f.advice = {fmt::format("Look at what {} does: the workers come back when it does.", c.who(head)),
              "Adding workers only helps until they wait for the same; a driver that blocks in a worker for "
              "long is the thing to mend."};
  if (c.writes_live_reports())
    f.advice.push_back(
        "Windows writes a live kernel report IO_THREADPOOL_DEADLOCK (0x1C5) when it sees this: look in "
        "C:\\Windows\\LiveKernelReports.");
  f.on_symptom = c.touches_entry(head, s.suffering);
  f.score = (q.executive ? 35 : 18) + c.weight(s.suffering);
  return f;
}

void find(Context& c, std::vector<Finding>& findings) {
  for (const waits::QueueNode& q : c.world.queues)
    if (const auto s = stuck_workers(c, q)) findings.push_back(finding_of(c, q, *s));
}

}  // namespace

extern const Rule worker_exhaustion_rule;
const Rule worker_exhaustion_rule{.name = "worker-exhaustion", .find = find};

}  // namespace unhang::diagnose
