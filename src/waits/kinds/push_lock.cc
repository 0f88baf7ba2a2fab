// Push locks: one quadword that names its waiters' blocks on their stacks, and no owner. AutoBoost's lock
// entries (Windows 8.1 and later) name the owner; before that, or when the entry is missing (there are six a
// thread, and some callers do without), who has the lock's address on his stack is a candidate.
//
// Facts: _EX_PUSH_LOCK in public PDBs; the wait block, public in 7601's PDB only, begins with the event that
// the thread waits for. Seen in published output: lock value ffffc188`1ca0f283, wait object
// ffffc188`1ca0f280.
#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/format.h"
#include "nt/objects/lock_entry.h"
#include "waits/kind.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

constexpr u64 kLocked = 1, kWaiting = 2, kMultipleShared = 8, kFlags = 0xf;
constexpr u64 kNextInBlock = 0x18;  // _EX_PUSH_LOCK_WAIT_BLOCK.Next of 7601
constexpr int kMostBlocks = 256;
constexpr size_t kMostCandidates = 8;

struct Holder {
  VirtAddr thread{};
  Confidence confidence = Confidence::exact;
};

struct Found {
  VirtAddr lock{};
  Confidence confidence = Confidence::heuristic;
  const char* how = "";
};

// Whether the wait block that a thread waits in is on the list that a lock's value begins.
std::optional<Confidence> leads_to(const World& world, u64 value, VirtAddr object) {
  if ((value & kWaiting) == 0 || (value & kLocked) == 0) return std::nullopt;
  VirtAddr block(value & ~kFlags);
  for (int i = 0; i < kMostBlocks && is_kernel(block); i++) {
    if (block == object) return Confidence::derived;
    const auto next = memory::read<VirtAddr>(world.target().kernel(), block + kNextInBlock);
    if (!next) return std::nullopt;
    block = VirtAddr(next->value() & ~kFlags);
  }
  return std::nullopt;
}

u64 value_of(const World& world, VirtAddr lock) {
  return memory::read<u64>(world.target().kernel(), lock).value_or(0);
}

std::optional<Found> lock_of(const World& world, const ThreadNode& t, VirtAddr object,
                             const std::vector<nt::LockEntry>& entries) {
  std::optional<Found> unproved;
  for (const nt::LockEntry& e : entries) {
    if (!e.waiting) continue;
    if (const auto c = leads_to(world, value_of(world, e.lock), object))
      return Found{e.lock, weaker(*c, std::min(e.confidence, Confidence::derived)),
                   "its lock entry, and the lock's list of waiters"};
    if ((value_of(world, e.lock) & kLocked) != 0)
      unproved = Found{e.lock, weaker(e.confidence, Confidence::derived), "its lock entry"};
  }
  for (const StackWord& w : kernel_stack_words(world, t)) {
    const bool on_stack = w.value >= t.thread.stack_limit && w.value < t.thread.stack_base;
    if (!is_kernel(w.value) || w.value.value() % 8 != 0 || on_stack) continue;
    if (const auto c = leads_to(world, value_of(world, w.value), object))
      return Found{w.value, *c, "the lock's list of waiters, found from the waiter's stack"};
  }
  return unproved;
}

// The file, the process or the symbol that a lock belongs to.
void describe(const World& world, Lock& lock) {
  lock.name = world.target().symbolize(lock.address);
  for (const auto& [va, info] : world.files) {
    const VirtAddr header = info.file.fs_context;
    constexpr u64 kPushLock = 0x48;  // FSRTL_ADVANCED_FCB_HEADER.PushLock (ntifs.h)
    if (is_kernel(header) && header + kPushLock == lock.address)
      lock.protects.push_back(info.file.full_path());
  }
  std::sort(lock.protects.begin(), lock.protects.end());
  lock.protects.erase(std::unique(lock.protects.begin(), lock.protects.end()), lock.protects.end());
  const u64 size = world.target().layouts().size_of("_EPROCESS").value_or(0);
  if (!lock.name.empty() || size == 0) return;
  for (const ProcessNode& p : world.processes)
    if (const u64 at = lock.address - p.process.address; at < size) {
      lock.name = fmt::format("in EPROCESS of {} ({}), +{:#x}", p.process.name, p.process.pid, at);
      if (const symbols::Layout* layout = world.target().layouts().layout_of("_EPROCESS"))
        for (const symbols::Member& m : layout->members(*layout->find_type("_EPROCESS")))
          if (m.offset == at && m.bit_length == 0)
            lock.name = fmt::format("{} of {} ({})", m.name, p.process.name, p.process.pid);
    }
}

// Without lock entries: threads that have the lock's address on their stacks and do not wait for it.
void find_candidates(World& world, std::vector<Edge>& open) {
  std::map<VirtAddr, std::vector<Reference>> by_lock;
  std::vector<Range> ranges;
  for (const Edge& e : open)
    if (by_lock.try_emplace(e.object).second) ranges.push_back({e.object, e.object + 8});
  const auto references = find_references(world, ranges);
  for (size_t i = 0; i < ranges.size(); i++) by_lock[ranges[i].low] = references[i];
  for (Edge& e : open) {
    const Lock* lock = world.lock(e.object, e.from);
    for (const Reference& r : by_lock[e.object]) {
      const bool waits = lock != nullptr && std::any_of(lock->waiters.begin(), lock->waiters.end(),
                                                        [&](const auto& w) { return w.thread == r.thread; });
      const bool known = std::any_of(e.candidates.begin(), e.candidates.end(),
                                     [&](const Candidate& c) { return c.thread == r.thread; });
      // Who waits in user mode's name for a window message has come out of the kernel's locks.
      const ThreadNode* t = world.thread(r.thread);
      const bool idle = t != nullptr && t->waiting() && t->thread.wait_reason == nt::kWrUserRequest;
      if (waits || known || idle || e.candidates.size() >= kMostCandidates) continue;
      e.candidates.push_back({r.thread, fmt::format("the lock's address is on its stack ({})", r.at)});
    }
    if (e.candidates.size() == 1) {
      e.to = e.candidates.front().thread;
      e.confidence = Confidence::heuristic;
      e.note = "no record of the owner: the one thread with the lock's address on its stack";
      Lock& held = world.add_lock(*lock);
      const bool listed = std::any_of(held.owners.begin(), held.owners.end(),
                                      [&](const LockOwner& o) { return o.thread == e.to; });
      if (!listed) held.owners.push_back({.thread = e.to, .count = 1, .confidence = Confidence::heuristic});
    } else {
      e.note = e.candidates.empty() ? "a push lock names no owner, and no thread has a record of it"
                                    : "a push lock names no owner: several threads know its address";
    }
    world.add_edge(e);
  }
}

void find(World& world) {
  std::unordered_map<VirtAddr, std::vector<Holder>> holders;
  std::unordered_map<VirtAddr, std::vector<nt::LockEntry>> entries;
  const bool any = std::any_of(world.threads.begin(), world.threads.end(), [](const ThreadNode& t) {
    return t.waiting() && t.thread.wait_reason == nt::kWrPushLock;
  });
  if (!any) return;
  for (const ThreadNode& t : world.threads) {
    const auto list = nt::read_lock_entries(world.target(), t.thread.address);
    for (const nt::LockEntry& e : list)
      if (e.acquired && !e.waiting)
        holders[e.lock].push_back({t.thread.address, weaker(e.confidence, Confidence::derived)});
    if (t.waiting() && t.thread.wait_reason == nt::kWrPushLock) entries[t.thread.address] = list;
  }
  std::vector<Edge> open;
  for (ThreadNode& t : world.threads) {
    if (!t.waiting() || t.thread.wait_reason != nt::kWrPushLock) continue;
    bool known = false;
    for (const nt::WaitBlock& block : t.thread.wait_blocks) {
      const auto found = lock_of(world, t, block.object, entries[t.thread.address]);
      if (!found) continue;
      known = true;
      const u64 value = value_of(world, found->lock);
      Lock fresh{.address = found->lock,
                 .kind = "push lock",
                 // One reader with others behind him looks like a writer.
                 .mode = (value & kMultipleShared) != 0 ? "shared" : "",
                 .confidence = found->confidence};
      describe(world, fresh);
      const auto held = holders.find(found->lock);
      if (held != holders.end())
        for (const Holder& h : held->second)
          fresh.owners.push_back({.thread = h.thread,
                                  .count = 1,
                                  .alive = !world.thread(h.thread)->thread.terminated(),
                                  .confidence = h.confidence});
      Lock& lock = world.add_lock(std::move(fresh));
      lock.waiters.push_back(
          {.thread = t.thread.address, .access = "unknown", .waited_ms = t.thread.waited_ms});
      world.add_wait(t, {.object = block.object,
                         .kind = "push lock",
                         .nature = WaitNature::lock,
                         .detail = fmt::format("push lock {}: {}", found->lock, found->how),
                         .confidence = found->confidence});
      Edge edge{.from = t.thread.address, .kind = "push lock", .object = found->lock};
      if (lock.owners.empty()) {
        edge.confidence = found->confidence;
        open.push_back(std::move(edge));
        continue;
      }
      for (const LockOwner& o : lock.owners) {
        edge.to = o.thread;
        edge.confidence = weaker(found->confidence, o.confidence);
        edge.note = "the owner's lock entry";
        world.add_edge(edge);
      }
    }
    if (known) continue;
    world.gaps.push_back({"push lock", hex(t.thread.address),
                          fmt::format("{} waits for one whose list of waiters does not lead to it",
                                      world.who(t.thread.address)),
                          true});
    world.add_wait(t,
                   {.object = t.thread.wait_blocks.empty() ? VirtAddr() : t.thread.wait_blocks.front().object,
                    .kind = "push lock",
                    .nature = WaitNature::lock,
                    .detail = "a push lock whose address neither a lock entry nor the stack tells",
                    .confidence = Confidence::derived});
  }
  find_candidates(world, open);
}

}  // namespace

extern const WaitKind push_lock_kind;
const WaitKind push_lock_kind{.name = "push lock", .order = 20, .find = find};

}  // namespace unhang::waits
