// Slim reader/writer locks, condition variables and WaitOnAddress: one quadword in user memory that names its
// waiters' blocks on their stacks, and no owner. The wait says so, and lists who has the lock's address on
// his stack, or who runs.
//
// Facts: winnt.h (RTL_SRWLOCK is one pointer); that its low four bits are Locked, Waiting, Waking and
// MultipleShared and the rest points to a wait block on a waiter's stack is general knowledge, checked here
// by finding the block on the stack of a thread of the same process.
#include <algorithm>
#include <ranges>

#include "base/format.h"
#include "waits/kind.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

constexpr u64 kLocked = 1, kWaiting = 2, kFlags = 0xf;
constexpr size_t kMostCandidates = 8;

bool may_wait_for_one(const ThreadNode& t) {
  if (!t.waiting() || t.nature() == WaitNature::lock) return false;
  return t.thread.wait_reason == nt::kWrKeyedEvent || t.thread.wait_reason == nt::kWrAlertByThreadId;
}

// Bounds of the part of a thread's user stack that is in use.
Range user_stack(const World& world, const ThreadNode& t, const ProcessNode& p) {
  if (!t.stack.user_registers || t.thread.teb.is_null()) return {};
  const VirtAddr low = t.stack.user_registers->sp();
  // NT_TIB.StackBase (winnt.h).
  const auto high = memory::read<VirtAddr>(world.target().space(p.process.dtb), t.thread.teb + 8);
  return {low, high.value_or(low + 0x10000)};
}

// The lock among the values that a waiter keeps: its own value leads to a block on the stack of a thread that
// waits in the same way.
std::optional<VirtAddr> lock_of(const World& world, const ThreadNode& t, const ProcessNode& p) {
  const Source<VirtAddr>& space = world.target().space(p.process.dtb);
  const Range own = user_stack(world, t, p);
  for (const StackWord& w : user_stack_words(world, t)) {
    constexpr u64 kLowest = 0x10000;
    if (is_kernel(w.value) || w.value.value() < kLowest || w.value.value() % 8 != 0) continue;
    if (w.value >= own.low && w.value < own.high) continue;
    const u64 value = memory::read<u64>(space, w.value).value_or(0);
    if ((value & (kLocked | kWaiting)) != (kLocked | kWaiting)) continue;
    const VirtAddr block(value & ~kFlags);
    for (const size_t i : p.threads) {
      const ThreadNode& other = world.threads[i];
      if (other.thread.wait_reason != t.thread.wait_reason || !other.waiting()) continue;
      const Range stack = user_stack(world, other, p);
      if (block >= stack.low && block < stack.high) return w.value;
    }
  }
  return std::nullopt;
}

// Threads of the process that keep the lock's address, those on a processor first.
std::vector<Candidate> keepers_of(const World& world, const ThreadNode& t, const ProcessNode& p,
                                  VirtAddr lock) {
  std::vector<const ThreadNode*> found;
  for (const size_t i : p.threads) {
    const ThreadNode& other = world.threads[i];
    const bool waits_alike = other.waiting() && other.thread.wait_reason == t.thread.wait_reason;
    // One that waits in its pool for work, or for a window message, has left the last one: what its stack
    // holds is old.
    const bool idle = other.waiting() && (other.thread.wait_reason == nt::kWrQueue ||
                                          other.thread.wait_reason == nt::kWrUserRequest);
    if (&other == &t || waits_alike || idle) continue;
    const std::vector<StackWord> words = user_stack_words(world, other);
    if (std::ranges::any_of(words, [&](const StackWord& w) { return w.value == lock; }))
      found.push_back(&other);
  }
  std::ranges::stable_partition(found, [](const ThreadNode* k) { return k->on_cpu(); });
  std::vector<Candidate> out;
  for (const ThreadNode* k : found | std::views::take(kMostCandidates))
    out.push_back({k->thread.address, "the lock's address is on its user stack"});
  return out;
}

// Threads of the process that are on a processor: who has the lock is most often still at work.
std::vector<Candidate> running_of(const World& world, const ProcessNode& p) {
  std::vector<Candidate> out;
  for (const size_t i : p.threads)
    if (const ThreadNode& other = world.threads[i]; other.on_cpu())
      out.push_back({other.thread.address,
                     fmt::format("it runs on CPU {}; nothing else speaks for it", *other.cpu),
                     Confidence::guess});
  return out;
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!may_wait_for_one(t) || t.process >= world.processes.size()) continue;
    const ProcessNode& p = world.processes[t.process];
    const VirtAddr object =
        t.thread.wait_blocks.empty() ? t.thread.address : t.thread.wait_blocks.front().object;
    const auto lock = lock_of(world, t, p);
    // A condition variable's value may look alike; the function that waits tells, where it has a name.
    const bool named = std::ranges::any_of(t.stack.symbols, [](std::string_view s) {
      return s.find("!RtlAcquireSRWLock") != s.npos || s.find("!RtlpAcquireSRWLock") != s.npos;
    });
    if (!lock && named) {
      constexpr const char* kWhich = "an SRW lock, by the function that waits; its address was not found";
      world.add_wait(t, {.object = object,
                         .kind = "SRW lock",
                         .nature = WaitNature::lock,
                         .detail = kWhich,
                         .confidence = Confidence::derived});
      world.add_edge({.from = t.thread.address,
                      .kind = "SRW lock",
                      .object = object,
                      .confidence = Confidence::derived,
                      .note = kWhich,
                      .candidates = running_of(world, p)});
      continue;
    }
    if (!lock) {
      world.add_wait(
          t, {.object = object,
              .kind = t.thread.wait_reason == nt::kWrKeyedEvent ? "keyed event" : "WaitOnAddress",
              .nature = WaitNature::event,
              .detail = "a slim lock, a condition variable or WaitOnAddress: nobody records who ends it",
              .confidence = Confidence::derived});
      continue;
    }
    Lock fresh{.address = *lock,
               .process = p.process.address,
               .kind = "SRW lock",
               .name = fmt::format("in {} ({})", p.process.name, p.process.pid),
               .mode = "",
               .confidence = Confidence::heuristic};
    world.add_lock(std::move(fresh))
        .waiters.push_back(
            {.thread = t.thread.address, .access = "unknown", .waited_ms = t.thread.waited_ms});
    world.add_wait(t, {.object = object,
                       .kind = "SRW lock",
                       .nature = WaitNature::lock,
                       .detail = fmt::format("SRW lock {} {}", *lock, "its value leads to a waiter's stack"),
                       .confidence = Confidence::heuristic});
    Edge edge{.from = t.thread.address,
              .kind = "SRW lock",
              .object = *lock,
              .confidence = named ? Confidence::derived : Confidence::heuristic,
              .note = "an SRW lock names no owner"};
    edge.candidates = keepers_of(world, t, p, *lock);
    if (edge.candidates.size() == 1) {
      edge.to = edge.candidates.front().thread;
      edge.confidence = Confidence::heuristic;
      edge.note = "no record of the owner: the one thread with the lock's address on its stack";
    } else if (edge.candidates.empty()) {
      edge.candidates = running_of(world, p);
    }
    world.add_edge(std::move(edge));
  }
}

}  // namespace

extern const WaitKind srw_lock_kind;
const WaitKind srw_lock_kind{.name = "SRW lock", .order = 26, .find = find};

}  // namespace unhang::waits
