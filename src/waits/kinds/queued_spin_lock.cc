// Queued spin locks: the numbered ones of the kernel (!qlocks), and those whose places drivers keep on their
// stacks (KeAcquireInStackQueuedSpinLock). Here the structure itself says who has the lock.
#include <algorithm>

#include "base/format.h"
#include "nt/objects/cpu.h"
#include "nt/objects/queued_lock.h"
#include "waits/kind.h"
#include "waits/spin.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

// The threads at the ends of what was found; the owner is null when nobody has a place and does not wait.
struct Queue {
  VirtAddr lock{};
  std::string name;
  VirtAddr owner{};
  std::vector<VirtAddr> waiters;
  Confidence confidence = Confidence::exact;
  std::string how;  // that the owner is the owner
};

void add(World& world, const Queue& q) {
  Lock fresh{.address = q.lock,
             .kind = "queued spin lock",
             .name = q.name,
             .mode = "exclusive",
             .confidence = q.confidence};
  if (!q.owner.is_null()) fresh.owners.push_back({.thread = q.owner, .count = 1, .confidence = q.confidence});
  Lock& lock = world.add_lock(std::move(fresh));
  for (const VirtAddr waiter : q.waiters) {
    lock.waiters.push_back({.thread = waiter, .access = "exclusive", .waited_ms = {}});
    const ThreadNode* t = world.thread(waiter);
    const std::string spins =
        t == nullptr || !t->on_cpu() ? "spins for it" : fmt::format("CPU {} spins for it", *t->cpu);
    world.add_edge({.from = waiter,
                    .to = q.owner,
                    .kind = "queued spin lock",
                    .object = q.lock,
                    .confidence = q.confidence,
                    .note = q.how.empty() ? spins : fmt::format("{}; {}", spins, q.how)});
  }
}

void numbered(World& world) {
  const auto locks = nt::read_numbered_locks(world.target());
  if (!locks) return;
  const Confidence confidence = world.target().bind(nt::KPRCB::LockQueue).value_or(nt::Bound{}).confidence;
  const auto on = [&](u32 number) {
    for (const nt::Cpu& cpu : world.target().cpus())
      if (cpu.number == number) return cpu.current_thread;
    return VirtAddr();
  };
  for (const nt::NumberedLock& l : *locks) {
    if (l.waiters.empty()) continue;
    Queue q{.lock = l.lock, .name = std::string(l.name), .confidence = confidence};
    if (l.owner) q.owner = on(*l.owner);
    for (const u32 cpu : l.waiters) q.waiters.push_back(on(cpu));
    add(world, q);
  }
}

// The places on the stacks of a processor's thread. Each proves itself: the lock's last place and its own
// successor stand for the same lock.
std::vector<nt::LockQueuePlace> places_of(const World& world, const ThreadNode& t) {
  std::vector<nt::LockQueuePlace> out;
  for (const StackWord& w : kernel_stack_words(world, t)) {
    if (!is_kernel(w.value) || w.value.value() % 8 > 3) continue;
    const auto place = nt::read_queue_place(world.target(), w.at - 8);
    if (place && nt::is_queued(world.target(), *place)) out.push_back(*place);
  }
  return out;
}

void on_stacks(World& world) {
  std::map<VirtAddr, Queue> queues;
  const auto each_cpu = [&](const auto& body) {
    for (const nt::Cpu& cpu : world.target().cpus())
      if (const ThreadNode* t = world.thread(cpu.current_thread); t != nullptr && cpu.state)
        for (const nt::LockQueuePlace& p : places_of(world, *t)) body(cpu, *t, p);
  };
  const bool any = std::any_of(world.threads.begin(), world.threads.end(),
                               [](const ThreadNode& t) { return t.on_cpu() && spin_frame(t.stack); });
  if (!any) return;
  each_cpu([&](const nt::Cpu&, const ThreadNode& t, const nt::LockQueuePlace& p) {
    if (p.waits) queues[p.lock].waiters.push_back(t.thread.address);
  });
  each_cpu([&](const nt::Cpu& cpu, const ThreadNode& t, const nt::LockQueuePlace& p) {
    const auto q = queues.find(p.lock);
    if (p.waits || q == queues.end()) return;
    q->second.owner = t.thread.address;
    q->second.how =
        fmt::format("CPU {} has the place in front of it on its stack ({})", cpu.number, p.address);
  });
  for (auto& [lock, q] : queues) {
    q.lock = lock;
    q.name = world.target().symbolize(lock);
    q.confidence = Confidence::derived;
    if (q.owner.is_null()) q.how = "the place of its owner is on no processor's stack";
    add(world, q);
  }
}

void find(World& world) {
  numbered(world);
  on_stacks(world);
}

}  // namespace

extern const WaitKind queued_spin_lock_kind;
const WaitKind queued_spin_lock_kind{.name = "queued spin lock", .order = 15, .find = find};

}  // namespace unhang::waits
