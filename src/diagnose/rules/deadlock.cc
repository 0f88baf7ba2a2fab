// A cycle of waits: nobody in it can ever go on.
#include <algorithm>

#include "base/format.h"
#include "diagnose/rule.h"
#include "memory/read.h"
#include "nt/objects/dispatcher.h"
#include "nt/objects/thread.h"
#include "waits/spin.h"

namespace unhang::diagnose {

namespace {

constexpr u8 kWaitAny = 1;  // WAIT_TYPE, wdm.h

u64 waited_ms(const Context& c, VirtAddr thread) {
  const ThreadNode* t = c.world.thread(thread);
  return t == nullptr ? 0 : t->thread.waited_ms.value_or(0);
}

// The surest of the edges between two threads.
const waits::Edge* edge_between(const Graph& graph, VirtAddr from, VirtAddr to) {
  const waits::Edge* surest = nullptr;
  for (const waits::Edge* e : graph.out(from))
    if (e->to == to && (surest == nullptr || e->confidence < surest->confidence)) surest = e;
  return surest;
}

ChainLink link_of(const Context& c, const waits::Edge& edge) {
  const Lock* lock = c.world.lock(edge.object, edge.from);
  return {.waiters = {edge.from},
          .object = edge.object,
          .kind = edge.kind,
          .name = lock == nullptr           ? ""
                  : !lock->protects.empty() ? lock->protects.front()
                                            : lock->name,
          .mode = lock == nullptr ? "" : lock->mode,
          .owner = edge.to,
          .longest_ms = waited_ms(c, edge.from),
          .confidence = edge.confidence};
}

// What ends the wait of a member although the circle stays: a time-out, another object it waits for as well.
// Waits for locks are no such: who waits for a resource or a critical section begins again after a time-out.
std::string way_out(const Context& c, const ThreadNode& t, const waits::Edge& edge) {
  const std::string_view kind = edge.kind;
  if (kind != "Mutant" && kind != "Thread" && kind != "ProcessObject") return {};
  const auto timer = nt::Object(c.world.target(), t.thread.address).address(nt::KTHREAD::Timer);
  for (const nt::WaitBlock& b : t.thread.wait_blocks)
    if (b.wait_type == kWaitAny && b.object != edge.object && (!timer || b.object != *timer))
      return fmt::format("{} waits for any of several objects: {} ends its wait as well",
                         c.who(t.thread.address), b.object);
  if (!timer) return {};
  const auto d = nt::read_dispatcher(c.world.target(), *timer);
  const u64 now = c.world.clock().interrupt_time;
  // DISPATCHER_HEADER.TimerMiscFlags (byte 3; public PDBs): bit 6, Inserted.
  const auto flags = memory::read<u8>(c.world.target().kernel(), *timer + 3);
  if (!d || !flags || (*flags & 0x40) == 0 || now == 0 || d->due_time <= now) return {};
  return fmt::format("the wait of {} has a time-out, due in {}", c.who(t.thread.address),
                     duration((d->due_time - now) / 10'000));
}

// Who takes the locks: of the kernel's locks the drivers on the stacks, of programs' locks the programs.
std::string component_of(const Context& c, const Finding& f, const std::vector<VirtAddr>& cycle) {
  const bool kernel = std::all_of(f.chain.begin(), f.chain.end(), [](const ChainLink& l) {
    return l.kind == "ERESOURCE" || l.kind == "push lock" || l.kind == "FAST_MUTEX" ||
           l.kind == "KGUARDED_MUTEX";
  });
  std::vector<std::string> drivers;
  for (const VirtAddr va : cycle) {
    const ThreadNode* t = c.world.thread(va);
    if (t == nullptr || !kernel) continue;
    for (size_t i = 0; i < t->stack.frames.size() && is_kernel(t->stack.frames[i].ip); i++) {
      const std::string module(waits::module_of(t->stack.symbols[i]));
      if (!module.empty() && module != "nt" && module != "hal" &&
          std::find(drivers.begin(), drivers.end(), module) == drivers.end())
        drivers.push_back(module);
    }
  }
  if (drivers.empty()) return processes_of(c.world, cycle);
  return fmt::format("{} (on their stacks)", fmt::join(drivers, ", "));
}

std::vector<std::string> advice_for(const Context& c, const Finding& f, const std::vector<VirtAddr>& cycle,
                                    bool may_end) {
  if (cycle.size() == 1)
    return {
        "The thread has taken the lock before and waits for it again: nobody else can release it. "
        "Restarting its process, or the guest, does.",
        fmt::format("Send its stack to the maker of the component that takes the lock twice: {}",
                    component_of(c, f, cycle))};
  std::vector<std::string> out{
      may_end ? "The threads wait for each other in a circle, which one of them may leave by itself; it will "
                "come "
                "back. Restarting one of the processes opens it now."
              : "The threads wait for each other in a circle: no time-out and no faster disk resolves it. "
                "Restarting "
                "one of the processes, or the guest, does.",
      fmt::format("Send the stacks of the threads in the circle to the maker of the component that takes "
                  "the locks in different orders: {}",
                  component_of(c, f, cycle))};
  const auto any = [&](const auto& test) { return std::any_of(f.chain.begin(), f.chain.end(), test); };
  if (any([](const ChainLink& l) { return l.name.starts_with("loader lock"); }))
    out.push_back(
        "The loader lock is held while DLLs are loaded and unloaded and while their DllMain runs, and every "
        "thread that starts or ends needs it: a DllMain that waits for another thread or for a lock does "
        "this. The stack of the one that holds it names the DLL.");
  if (c.writes_live_reports() && any([](const ChainLink& l) { return l.kind == "ERESOURCE"; }))
    out.push_back(
        "Look in C:\\Windows\\LiveKernelReports for EXRESOURCE_TIMEOUT dumps (0x1CC) of earlier "
        "occurrences.");
  return out;
}

Finding finding_of(Context& c, const std::vector<VirtAddr>& cycle) {
  Finding f{.rule = "deadlock", .verdict = "deadlock"};
  std::string story;
  bool may_end = false;
  std::vector<VirtAddr> suffering = cycle;
  for (size_t i = 0; i < cycle.size(); i++) {
    const VirtAddr from = cycle[i], to = cycle[(i + 1) % cycle.size()];
    const waits::Edge* edge = edge_between(c.graph, from, to);
    if (edge == nullptr) continue;
    const ChainLink& link = f.chain.emplace_back(link_of(c, *edge));
    f.confidence = weaker(f.confidence, link.confidence);
    const std::string text = fmt::format(
        "{} waits {} for {} {}{}, {}", c.who(from), duration(link.longest_ms), link.kind, link.object,
        link.name.empty() ? "" : fmt::format(" ({})", link.name), owes(edge->kind, c.who(to)));
    f.evidence.push_back(c.about_thread(from, text, link.confidence));
    const ThreadNode* node = c.world.thread(from);
    if (const std::string way = node == nullptr ? "" : way_out(c, *node, *edge); !way.empty()) {
      may_end = true;
      f.confidence = weaker(f.confidence, Confidence::heuristic);
      f.evidence.push_back(c.about_thread(from, way, Confidence::derived));
    }
    f.longest_ms = std::max(f.longest_ms, link.longest_ms);
    story += (i == 0 ? "" : " -> ") + c.who(from);
    for (const VirtAddr b : c.graph.behind(from).threads)
      if (std::find(suffering.begin(), suffering.end(), b) == suffering.end()) suffering.push_back(b);
  }
  // A thread of the cycle that runs is a contradiction: a smear of a running guest, or a stale list.
  if (!std::all_of(cycle.begin(), cycle.end(), [&](VirtAddr t) {
        const ThreadNode* node = c.world.thread(t);
        return node != nullptr && node->waiting();
      })) {
    f.confidence = weaker(f.confidence, Confidence::heuristic);
    f.evidence.push_back({.text = "not every thread of the cycle is waiting: the dump may be torn",
                          .confidence = Confidence::exact});
  }
  // Who took the last lock cannot be seen; the longest waiter was caught first.
  f.culprit = c.culprit(*std::max_element(
      cycle.begin(), cycle.end(), [&](VirtAddr a, VirtAddr b) { return waited_ms(c, a) < waited_ms(c, b); }));
  f.cycles.push_back(cycle);
  const size_t behind = suffering.size() - cycle.size();
  f.title = fmt::format(
      "{}{}",
      cycle.size() == 1
          ? fmt::format("deadlock of one thread: {} waits for what it holds itself", c.who(cycle.front()))
          : fmt::format("deadlock of {} threads: {} -> back to {}", cycle.size(), story,
                        c.who(cycle.front())),
      behind == 0 ? ""
                  : fmt::format("; {} behind it", counted(behind, "more thread waits", "more threads wait")));
  f.advice = advice_for(c, f, cycle, may_end);
  f.on_symptom = c.touches_entry(cycle.front(), suffering);
  f.score = 70 + c.weight(suffering);
  f.waiting = std::move(suffering);
  return f;
}

void find(Context& c, std::vector<Finding>& findings) {
  // Circles that share a thread are one deadlock: sixty workers that all wait for the same lock.
  std::vector<Finding> found;
  for (const std::vector<VirtAddr>& cycle : c.graph.cycles()) {
    const auto shares = [&](const Finding& f) {
      return std::any_of(cycle.begin(), cycle.end(), [&](VirtAddr t) {
        return std::find(f.cycles.front().begin(), f.cycles.front().end(), t) != f.cycles.front().end();
      });
    };
    const auto other = std::find_if(found.begin(), found.end(), shares);
    if (other == found.end())
      found.push_back(finding_of(c, cycle));
    else
      other->cycles.push_back(cycle);
  }
  for (Finding& f : found) {
    if (f.cycles.size() > 1)
      f.title += fmt::format("; {} through the same threads",
                             counted(f.cycles.size() - 1, "more circle leads", "more circles lead"));
    findings.push_back(std::move(f));
  }
}

}  // namespace

extern const Rule deadlock_rule;
const Rule deadlock_rule{.name = "deadlock", .find = find};

}  // namespace unhang::diagnose
