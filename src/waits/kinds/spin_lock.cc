// Spin locks: a processor turns in a loop until another lets go. The numbered queued locks say who owns and
// who waits; a plain lock is one bit, and the processor that has its address on its stack is a candidate.
// Facts: KSPIN_LOCK_QUEUE_NUMBER (wdm.h); the bits of KSPIN_LOCK_QUEUE.Lock as WinDbg's !qlocks reads them.
#include <algorithm>

#include "base/format.h"
#include "nt/objects/cpu.h"
#include "waits/kind.h"
#include "waits/spin.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

constexpr u64 kQueues = 17, kQueueSize = 0x10, kWaits = 1, kOwns = 2;
constexpr const char* kNames[kQueues] = {
    "LockQueueUnusedSpare0",     "LockQueueUnusedSpare1",     "LockQueueUnusedSpare2",
    "LockQueueUnusedSpare3",     "LockQueueVacbLock",         "LockQueueMasterLock",
    "LockQueueNonPagedPoolLock", "LockQueueIoCancelLock",     "LockQueueUnusedSpare8",
    "LockQueueIoVpbLock",        "LockQueueIoDatabaseLock",   "LockQueueIoCompletionLock",
    "LockQueueNtfsStructLock",   "LockQueueAfdWorkQueueLock", "LockQueueBcbLock",
    "LockQueueUnusedSpare15",    "LockQueueUnusedSpare16"};

void numbered(World& world) {
  struct State {
    VirtAddr lock{};
    std::vector<const nt::Cpu*> owners, waiters;
  };
  std::vector<State> states(kQueues);
  for (const nt::Cpu& cpu : world.target().cpus()) {
    const auto queues = nt::Object(world.target(), cpu.kprcb).address(nt::KPRCB::LockQueue);
    if (!queues) return;
    for (u64 i = 0; i < kQueues; i++) {
      const u64 value = memory::read<u64>(world.target().kernel(), *queues + i * kQueueSize + 8).value_or(0);
      if (!is_kernel(VirtAddr(value)) || (value & (kWaits | kOwns)) == 0) continue;
      states[i].lock = VirtAddr(value & ~u64{7});
      ((value & kOwns) != 0 ? states[i].owners : states[i].waiters).push_back(&cpu);
    }
  }
  for (u64 i = 0; i < kQueues; i++) {
    const State& s = states[i];
    if (s.waiters.empty()) continue;
    const Confidence confidence = world.target().bind(nt::KPRCB::LockQueue).value_or(nt::Bound{}).confidence;
    Lock fresh{.address = s.lock,
               .kind = "queued spin lock",
               .name = kNames[i],
               .mode = "exclusive",
               .confidence = confidence};
    for (const nt::Cpu* cpu : s.owners)
      fresh.owners.push_back({.thread = cpu->current_thread, .count = 1, .confidence = confidence});
    Lock& lock = world.add_lock(std::move(fresh));
    for (const nt::Cpu* cpu : s.waiters) {
      lock.waiters.push_back({.thread = cpu->current_thread, .access = "exclusive", .waited_ms = {}});
      Edge edge{.from = cpu->current_thread,
                .kind = "queued spin lock",
                .object = s.lock,
                .confidence = confidence,
                .note = fmt::format("CPU {} spins for it", cpu->number)};
      for (const nt::Cpu* owner : s.owners) {
        edge.to = owner->current_thread;
        world.add_edge(edge);
      }
      if (s.owners.empty()) world.add_edge(edge);
    }
  }
}

// The lock that a spinning processor has in a register: taken, and outside of the stack.
std::optional<VirtAddr> lock_in_register(const World& world, const nt::Cpu& cpu, const ThreadNode& t) {
  static constexpr int kOrder[] = {dump::rcx, dump::rbx, dump::rdi, dump::rsi, dump::rdx,
                                   dump::r8,  dump::r9,  dump::r10, dump::r11, dump::r12,
                                   dump::r13, dump::r14, dump::r15, dump::rax};
  for (const int r : kOrder) {
    const VirtAddr va(cpu.state->gpr[static_cast<size_t>(r)]);
    if (!is_kernel(va) || va.value() % 4 != 0) continue;
    if (va >= t.thread.stack_limit && va < t.thread.stack_base) continue;
    // KSPIN_LOCK: 1 on a free build. EX_SPIN_LOCK: bit 31 for exclusive owners.
    const auto value = memory::read<u32>(world.target().kernel(), va);
    if (value && (*value == 1 || (*value >> 31) != 0)) return va;
  }
  return std::nullopt;
}

void plain(World& world) {
  for (const nt::Cpu& cpu : world.target().cpus()) {
    const ThreadNode* t = world.thread(cpu.current_thread);
    if (t == nullptr || !cpu.state || !spin_frame(t->stack)) continue;
    const auto lock = lock_in_register(world, cpu, *t);
    if (!lock) continue;
    Edge edge{
        .from = t->thread.address, .kind = "spin lock", .object = *lock, .confidence = Confidence::heuristic};
    for (const nt::Cpu& other : world.target().cpus()) {
      const ThreadNode* o = world.thread(other.current_thread);
      if (o == nullptr || o == t || o->idle_thread || spin_frame(o->stack)) continue;
      for (const StackWord& w : kernel_stack_words(world, *o))
        if (w.value == *lock) {
          edge.candidates.push_back(
              {o->thread.address, fmt::format("CPU {} has the lock's address on its stack", other.number)});
          break;
        }
    }
    edge.note = fmt::format("CPU {} spins for it; a spin lock names no owner", cpu.number);
    if (edge.candidates.size() == 1) {
      edge.to = edge.candidates.front().thread;
      edge.note = edge.candidates.front().why;
    }
    Lock fresh{
        .address = *lock, .kind = "spin lock", .mode = "exclusive", .confidence = Confidence::heuristic};
    fresh.name = world.target().symbolize(*lock);
    if (!edge.to.is_null())
      fresh.owners.push_back({.thread = edge.to, .count = 1, .confidence = Confidence::heuristic});
    world.add_lock(std::move(fresh))
        .waiters.push_back({.thread = t->thread.address, .access = "exclusive", .waited_ms = {}});
    world.add_edge(std::move(edge));
  }
}

void find(World& world) {
  numbered(world);
  plain(world);
}

}  // namespace

extern const WaitKind spin_lock_kind;
const WaitKind spin_lock_kind{.name = "spin lock", .order = 15, .find = find};

}  // namespace unhang::waits
