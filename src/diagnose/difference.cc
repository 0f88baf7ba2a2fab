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

bool same_boot(const World& a, const World& b) {
  if (a.target().kernel_base() != b.target().kernel_base()) return false;
  const nt::Clock &ca = a.clock(), &cb = b.clock();
  if (ca.system_time == 0 || cb.system_time == 0) return true;  // cannot be told apart by the clock
  const u64 boot_a = ca.system_time - ca.interrupt_time, boot_b = cb.system_time - cb.interrupt_time;
  return boot_a > boot_b ? boot_a - boot_b < kSameBoot : boot_b - boot_a < kSameBoot;
}

bool same_stack(const ThreadNode& a, const ThreadNode& b) {
  return !a.stack.frames.empty() &&
         std::equal(
             a.stack.frames.begin(), a.stack.frames.end(), b.stack.frames.begin(), b.stack.frames.end(),
             [](const stack::Frame& x, const stack::Frame& y) { return x.ip == y.ip && x.sp == y.sp; });
}

bool same_wait(const ThreadNode& a, const ThreadNode& b) {
  return a.waiting() && b.waiting() && a.thread.wait_time == b.thread.wait_time && !a.waits.empty() &&
         !b.waits.empty() && a.waits.front().object == b.waits.front().object;
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
    // Another thread may have got the memory of one that ended.
    if (then == nullptr || then->thread.create_time != now.thread.create_time ||
        then->thread.tid != now.thread.tid) {
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
                   .same_wait = same_wait(*then, now),
                   .waiting = graph.behind(now.thread.address).threads.size()};
    if (c.cpu_ms != 0) d.busy.push_back(c);
    if (c.switches == 0 && c.same_wait && suffers(b, graph, now)) d.stuck.push_back(c);
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

void conclude(const World& b, const Graph& graph, Difference& d) {
  const std::string time = duration(d.elapsed_ms);
  size_t moved = 0, fixed = 0;
  for (const LockChange& l : d.locks) (l.same_owners && l.contention == 0 ? fixed : moved)++;
  const size_t waiting = static_cast<size_t>(std::count_if(
      b.threads.begin(), b.threads.end(), [&](const ThreadNode& t) { return suffers(b, graph, t); }));
  if (!d.stuck.empty() && d.stuck.size() * 2 >= waiting) {
    d.verdict = "stuck";
    d.summary = fmt::format("{} did not move at all in {}; {} kept the same owner",
                            counted(d.stuck.size(), "waiting thread", "waiting threads"), time,
                            counted(fixed, "lock", "locks"));
  } else if (waiting != 0) {
    d.verdict = "slow";
    d.summary = fmt::format(
        "{} for locks or requests, but {} moved in {}: not stuck, slow; {} changed hands or had new waiters",
        counted(waiting, "thread waits", "threads wait"), waiting - std::min(waiting, d.stuck.size()), time,
        counted(moved, "lock", "locks"));
  } else {
    d.verdict = "idle";
    d.summary =
        fmt::format("no thread waits for a lock or a request in the second dump, {} after the first", time);
  }
  if (!d.busy.empty())
    d.summary +=
        fmt::format("; {} used most of the CPU: {} ms", b.who(d.busy.front().thread), d.busy.front().cpu_ms);
}

}  // namespace

Result<Difference> difference(World& before, World& after) {
  if (!same_boot(before, after)) return refuse("these are not two dumps of one machine since one start");
  const u64 t0 = before.clock().interrupt_time, t1 = after.clock().interrupt_time;
  if (t0 == 0 || t1 == 0) return refuse("the clock cannot be read in both dumps");
  if (t1 < t0)
    return refuse("the second dump is older than the first: name them in the order they were taken");
  if (t1 == t0) return refuse("no time passed in the machine between the dumps");
  Difference d;
  d.elapsed_ms = (t1 - t0) / 10000;
  const Graph graph(after);
  compare_threads(before, after, graph, d);
  compare_locks(before, after, d);
  conclude(after, graph, d);
  return d;
}

}  // namespace unhang::diagnose
