#include "diagnose/difference.h"

#include <algorithm>
#include <set>

#include "base/format.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kSameBoot = 5ULL * 10'000'000;  // clocks may be set by so much between the dumps, 100 ns

std::unexpected<Error> refuse(const char* why) {
  return fail(Error{.why = Why::unsupported, .detail = why});
}

// The same thread: another one may have got the memory of one that ended.
bool same_thread(const ThreadNode& a, const ThreadNode& b) {
  return a.thread.create_time == b.thread.create_time && a.thread.tid == b.thread.tid;
}

// By the clock, or, since that may be set between the dumps (a time service, after a long pause), by threads
// that were made at the same moment and lie at the same place: more than half of them.
bool same_boot(const World& a, const World& b) {
  if (a.target().kernel_base() != b.target().kernel_base()) return false;
  const nt::Clock &ca = a.clock(), &cb = b.clock();
  if (ca.system_time == 0 || cb.system_time == 0) return true;  // cannot be told apart by the clock
  const u64 boot_a = ca.system_time - ca.interrupt_time, boot_b = cb.system_time - cb.interrupt_time;
  if ((boot_a > boot_b ? boot_a - boot_b : boot_b - boot_a) < kSameBoot) return true;
  const auto lasted = static_cast<size_t>(std::ranges::count_if(a.threads, [&](const ThreadNode& t) {
    const ThreadNode* later = b.thread(t.thread.address);
    return t.thread.create_time != 0 && later != nullptr && same_thread(t, *later);
  }));
  return lasted * 2 > a.threads.size();
}

bool same_stack(const ThreadNode& a, const ThreadNode& b) {
  return !a.stack.frames.empty() &&
         std::equal(
             a.stack.frames.begin(), a.stack.frames.end(), b.stack.frames.begin(), b.stack.frames.end(),
             [](const stack::Frame& x, const stack::Frame& y) { return x.ip == y.ip && x.sp == y.sp; });
}

// It waits for the same object, and since the same tick without having run. A wait for a resource begins anew
// every four seconds (half a second at first; Microsoft's registry value ResourceTimeoutCount counts them),
// which is no progress: then its place on the stack is the same.
bool stands_still(const ThreadNode& a, const ThreadNode& b, u64 elapsed_ms) {
  if (!a.waiting() || !b.waiting() || a.waits.empty() || b.waits.empty() ||
      a.waits.front().object != b.waits.front().object)
    return false;
  const u32 switches = b.thread.context_switches - a.thread.context_switches;
  if (switches == 0) return a.thread.wait_time == b.thread.wait_time;
  constexpr u64 kRoundMs = 4000;
  return a.thread.wait_reason == nt::kWrResource && b.thread.wait_reason == nt::kWrResource &&
         switches <= elapsed_ms / kRoundMs + 2 && same_stack(a, b);
}

bool held_up(const ThreadNode& t) {
  return t.nature() == waits::WaitNature::lock || t.nature() == waits::WaitNature::io;
}

// Whether a thread waits for what somebody else must give back. Waiting for an answer for hours is ordinary;
// it counts when the one who must answer is held up or works.
bool suffers(const World& world, const Graph& graph, const ThreadNode& t) {
  if (held_up(t)) return true;
  if (t.nature() != waits::WaitNature::request) return false;
  std::set<VirtAddr> seen;
  std::vector<VirtAddr> todo{t.thread.address};
  while (!todo.empty()) {
    const VirtAddr at = todo.back();
    todo.pop_back();
    for (const waits::Edge* e : graph.out(at)) {
      if (!seen.insert(e->to).second) continue;
      const ThreadNode* next = world.thread(e->to);
      if (next != nullptr && (held_up(*next) || !next->waiting())) return true;
      todo.push_back(e->to);
    }
  }
  return false;
}

std::vector<VirtAddr> owners(const Lock* lock) {
  std::vector<VirtAddr> out;
  if (lock == nullptr) return out;
  for (const auto& o : lock->owners) out.push_back(o.thread);
  std::sort(out.begin(), out.end());
  return out;
}

void compare_threads(World& a, World& b, const Graph& graph, Difference& d) {
  const nt::Clock& clock = b.clock();
  for (const ThreadNode& now : b.threads) {
    const ThreadNode* then = a.thread(now.thread.address);
    if (then == nullptr || !same_thread(*then, now)) {
      d.started++;
      continue;
    }
    d.common++;
    if (now.idle_thread) continue;
    ThreadChange c{.thread = now.thread.address,
                   .switches = now.thread.context_switches - then->thread.context_switches,
                   .cpu_ms = clock.ms(now.thread.kernel_ticks - then->thread.kernel_ticks +
                                      now.thread.user_ticks - then->thread.user_ticks),
                   .same_stack = same_stack(*then, now),
                   .same_wait = stands_still(*then, now, d.elapsed_ms),
                   .waiting = graph.behind(now.thread.address).threads.size()};
    if (c.cpu_ms != 0) d.busy.push_back(c);
    if (c.same_wait && suffers(b, graph, now)) d.stuck.push_back(c);
  }
  d.ended = a.threads.size() - std::min(a.threads.size(), d.common);
  std::sort(d.busy.begin(), d.busy.end(), [](const auto& x, const auto& y) { return x.cpu_ms > y.cpu_ms; });
  std::stable_sort(d.stuck.begin(), d.stuck.end(),
                   [](const auto& x, const auto& y) { return x.waiting > y.waiting; });
}

void compare_locks(const World& a, const World& b, Difference& d) {
  for (const Lock& now : b.locks) {
    const Lock* then = a.lock_in(now.process, now.address);
    if (now.waiters.empty() && (then == nullptr || then->waiters.empty())) continue;
    LockChange c{.address = now.address,
                 .process = now.process,
                 .kind = now.kind,
                 .name = now.protects.empty() ? now.name : now.protects.front(),
                 .owners_before = owners(then),
                 .owners_after = owners(&now),
                 .contention = then == nullptr ? 0 : now.contention - then->contention,
                 .waiters_before = then == nullptr ? 0 : then->waiters.size(),
                 .waiters_after = now.waiters.size()};
    c.same_owners = c.owners_before == c.owners_after;
    d.locks.push_back(std::move(c));
  }
}

// Whether a lock went on to somebody else. A shared owner that leaves others behind moves nothing.
bool went_on(const LockChange& l) {
  return !l.owners_before.empty() && !l.owners_after.empty() &&
         std::ranges::none_of(l.owners_after,
                              [&](VirtAddr t) { return std::ranges::binary_search(l.owners_before, t); });
}

// Threads that stand in a queue that moves.
size_t queued(const World& b, const Graph& graph, const Difference& d) {
  std::set<std::pair<VirtAddr, VirtAddr>> moved;
  for (const LockChange& l : d.locks)
    if (went_on(l)) moved.insert({l.process, l.address});
  return static_cast<size_t>(std::ranges::count_if(d.stuck, [&](const ThreadChange& c) {
    return std::ranges::any_of(graph.out(c.thread), [&](const waits::Edge* e) {
      const Lock* lock = b.lock(e->object, c.thread);
      return lock != nullptr && moved.contains({lock->process, lock->address});
    });
  }));
}

// What the busiest thread says about those that wait behind it.
std::string about_busiest(const World& b, const Difference& d) {
  if (d.busy.empty()) return "";
  const ThreadChange& first = d.busy.front();
  const bool works = first.waiting != 0 && first.cpu_ms * 2 >= d.elapsed_ms;
  return fmt::format("; {} used most of the CPU: {} ms{}", b.who(first.thread), first.cpu_ms,
                     works ? fmt::format(", and {} behind it: it works",
                                         counted(first.waiting, "thread waits", "threads wait"))
                           : "");
}

// Nothing waits as far as can be seen; whether that says anything.
void conclude_idle(const World& a, const World& b, Difference& d) {
  std::string missing;
  const char* what = !whole_picture(b, missing) ? "second" : !whole_picture(a, missing) ? "first" : nullptr;
  if (what == nullptr) {
    d.verdict = "idle";
    d.summary = fmt::format("no thread waits for a lock or a request in the second dump, {} after the first",
                            duration(d.elapsed_ms));
    return;
  }
  d.verdict = "unknown";
  d.summary = fmt::format(
      "no thread waits for a lock or a request in what could be read of the second dump, {} after the "
      "first; the {} dump is not whole ({})",
      duration(d.elapsed_ms), what, missing);
}

void conclude(const World& a, const World& b, const Graph& graph, Difference& d) {
  const std::string time = duration(d.elapsed_ms);
  size_t moved = 0, fixed = 0;
  for (const LockChange& l : d.locks) (l.same_owners && l.contention == 0 ? fixed : moved)++;
  const size_t waiting = static_cast<size_t>(std::count_if(
      b.threads.begin(), b.threads.end(), [&](const ThreadNode& t) { return suffers(b, graph, t); }));
  const size_t in_queue = queued(b, graph, d), stuck = d.stuck.size() - in_queue;
  const std::string queue =
      in_queue == 0 ? "" : fmt::format("; {} in a queue that moved", counted(in_queue, "stands", "stand"));
  if (d.elapsed_ms == 0) {
    d.verdict = "unknown";
    d.summary = fmt::format(
        "the machine's clock stood still between the dumps: both are of one moment, or the machine did not "
        "run, or its processors take no interrupts; {} moved",
        counted(moved, "lock", "locks"));
  } else if (stuck != 0 && stuck * 2 >= waiting - std::min(waiting, in_queue)) {
    d.verdict = "stuck";
    d.summary = fmt::format("{} did not move at all in {}; {} kept the same owner{}",
                            counted(stuck, "waiting thread", "waiting threads"), time,
                            counted(fixed, "lock", "locks"), queue);
  } else if (waiting != 0) {
    d.verdict = "slow";
    d.summary = fmt::format(
        "{} for locks or requests, but {} moved in {}{}{}: not stuck, slow; {} changed hands or had "
        "new waiters",
        counted(waiting, "thread waits", "threads wait"), waiting - std::min(waiting, d.stuck.size()), time,
        queue, stuck == 0 ? "" : fmt::format("; {} did not move", stuck), counted(moved, "lock", "locks"));
  } else {
    conclude_idle(a, b, d);
  }
  d.summary += about_busiest(b, d);
}

void collect_gaps(const World& w, const char* which, Difference& d) {
  for (const auto* list : {&w.target().gaps(), &w.gaps})
    for (const Gap& g : *list)
      if (!g.minor) d.gaps.push_back({fmt::format("{} dump: {}", which, g.what), g.where, g.why});
}

}  // namespace

Result<Difference> difference(World& before, World& after) {
  if (!same_boot(before, after)) return refuse("these are not two dumps of one machine since one start");
  const u64 t0 = before.clock().interrupt_time, t1 = after.clock().interrupt_time;
  if (t0 == 0 || t1 == 0) return refuse("the clock cannot be read in both dumps");
  if (t1 < t0)
    return refuse("the second dump is older than the first: name them in the order they were taken");
  Difference d;
  d.elapsed_ms = (t1 - t0) / 10000;
  const Graph graph(after);
  compare_threads(before, after, graph, d);
  compare_locks(before, after, d);
  conclude(before, after, graph, d);
  collect_gaps(before, "first", d);
  collect_gaps(after, "second", d);
  return d;
}

}  // namespace unhang::diagnose
