// Executive resources (!locks): who holds them, who waits, which file they guard.
#include "nt/objects/eresource.h"

#include <algorithm>
#include <unordered_set>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr u64 kStackSearch = 0x800;

void add(World& world, const nt::Resource& r) {
  Lock lock{.address = r.address,
            .kind = "ERESOURCE",
            .mode = r.mode().data(),
            .contention = r.contention,
            .gaps = r.gaps};
  lock.name = world.target().symbolize(r.address);
  lock.protects = world.files_of_resource(r.address);
  const auto confidence = world.target().bind(nt::ERESOURCE::OwnerEntry).value_or(nt::Bound{}).confidence;
  lock.confidence = confidence;
  for (const nt::ResourceOwner& o : r.owners) {
    LockOwner owner{.thread = o.thread, .count = o.count, .confidence = confidence};
    const ThreadNode* t = world.find_or_adopt(o.thread);
    owner.alive = world.alive(o.thread);
    if (t == nullptr && o.is_thread) owner.confidence = Confidence::derived;  // a thread outside of all lists
    if (!o.is_thread) {
      // ExSetResourceOwnerPointer: the owner is a structure of the driver, not a thread.
      if (o.masked()) owner.alive = true;
      lock.gaps.push_back({"owner", hex(o.raw),
                           o.masked() ? "an owner pointer that is not a thread (set by a driver)"
                                      : "not a thread: freed, or the page is missing"});
    }
    lock.owners.push_back(owner);
  }
  auto wait = [&](VirtAddr va, const char* access) {
    ThreadNode* t = world.find_or_adopt(va);
    LockWaiter waiter{.thread = va, .access = access};
    Edge edge{.from = va, .kind = "ERESOURCE", .object = r.address, .confidence = confidence};
    if (t != nullptr) {
      waiter.waited_ms = t->thread.waited_ms;
      if (!t->waiting()) {
        // The list and the thread were read at different moments of a running guest.
        edge.confidence = Confidence::heuristic;
        edge.note = fmt::format("it is on the lock's list of waiters, but its state is {}",
                                nt::name(t->thread.state));
      } else {
        world.add_wait(*t, {.object = r.address,
                            .kind = "ERESOURCE",
                            .nature = WaitNature::lock,
                            .detail = fmt::format("{} access", access),
                            .confidence = confidence});
      }
    }
    lock.waiters.push_back(waiter);
    for (const nt::ResourceOwner& o : r.owners) {
      // Who has it alone gets it again at once (ExAcquireResourceExclusiveLite): he became the owner between
      // two readings of a running guest.
      if (o.thread == va && lock.mode == std::string_view("exclusive")) {
        lock.gaps.push_back({"waiters", hex(va),
                             "it has the resource exclusively and is on its list of waiters too: the dump is "
                             "not of one instant"});
        continue;
      }
      Edge to_owner = edge;
      if (o.is_thread || !o.masked())
        to_owner.to = o.thread;
      else
        to_owner.note = fmt::format(
            "owned by {}, a pointer that a driver set (ExSetResourceOwnerPointer): no "
            "thread is recorded",
            o.raw);
      world.add_edge(std::move(to_owner));
    }
    if (r.owners.empty()) world.add_edge(edge);
  };
  for (const VirtAddr va : r.exclusive_waiters) wait(va, "exclusive");
  for (const VirtAddr va : r.shared_waiters) wait(va, "shared");
  world.add_lock(std::move(lock));
}

// A thread that waits for some resource (WrResource) but is on no list that could be read: the address of the
// resource is among the values on its stack, saved by the functions that wait.
void recover(World& world, const std::unordered_set<VirtAddr>& held) {
  for (ThreadNode& t : world.threads) {
    if (!t.waiting() || t.thread.wait_reason != nt::kWrResource) continue;
    if (std::any_of(t.waits.begin(), t.waits.end(),
                    [](const Wait& w) { return w.nature == WaitNature::lock; }))
      continue;
    const auto stack = memory::read_sparse(world.target().kernel(), t.thread.kernel_stack, kStackSearch);
    const ByteView b(stack.bytes);
    std::vector<VirtAddr> found;
    for (u64 at = 0; at + 8 <= b.size(); at += 8)
      if (const VirtAddr v(b.at<u64>(at));
          held.contains(v) && v != VirtAddr() && std::find(found.begin(), found.end(), v) == found.end())
        found.push_back(v);
    for (const VirtAddr r : found) {
      // One that the thread itself holds is not what it waits for, unless nothing else is there.
      const Lock* lock = world.lock(r, t.thread.address);
      const bool own =
          lock != nullptr && std::any_of(lock->owners.begin(), lock->owners.end(),
                                         [&](const LockOwner& o) { return o.thread == t.thread.address; });
      if (lock == nullptr || (own && (found.size() > 1 || lock->mode == std::string_view("exclusive"))))
        continue;
      const std::string note =
          found.size() == 1
              ? "its address is on the waiting thread's stack"
              : "one of several held resources whose addresses are on the waiting thread's stack";
      world.add_wait(t, {.object = r,
                         .kind = "ERESOURCE",
                         .nature = WaitNature::lock,
                         .detail = note,
                         .confidence = Confidence::heuristic});
      for (const LockOwner& o : lock->owners)
        world.add_edge({.from = t.thread.address,
                        .to = o.thread,
                        .kind = "ERESOURCE",
                        .object = r,
                        .confidence = Confidence::heuristic,
                        .note = note});
      Lock& changed = world.add_lock(*lock);
      changed.waiters.push_back(
          {.thread = t.thread.address, .access = "unknown", .waited_ms = t.thread.waited_ms});
    }
    if (found.empty())
      world.gaps.push_back({fmt::format("wait of thread {}.{}", t.thread.pid, t.thread.tid),
                            hex(t.thread.address),
                            "it waits for a resource, but no list and no stack value says which"});
  }
}

void find(World& world) {
  const nt::ResourceList list = nt::list_resources(world.target(), world.file_resources());
  for (const Gap& g : list.gaps) world.gaps.push_back(g);
  std::unordered_set<VirtAddr> held;
  for (const VirtAddr va : list.resources) {
    const auto r = nt::read_resource(world.target(), va);
    if (!r) {
      world.gaps.push_back({"resource", hex(va), text(r.error())});
      continue;
    }
    if (!r->held() && !r->contended()) continue;
    held.insert(va);
    add(world, *r);
    for (const Gap& g : r->gaps)
      world.gaps.push_back({fmt::format("{} of resource {}", g.what, va), g.where, g.why});
  }
  recover(world, held);
}

}  // namespace

extern const WaitKind eresource_kind;
const WaitKind eresource_kind{.name = "ERESOURCE", .order = 10, .find = find};

}  // namespace unhang::waits
