// Fast and guarded mutexes: a thread waits for the event (or, on Windows 7, the gate) inside the mutex, and
// the mutex names its owner. From the wait object back to the mutex is one subtraction.
#include "waits/kind.h"

namespace unhang::waits {

namespace {

struct FAST_MUTEX {
  static constexpr nt::TypeName kType{"_FAST_MUTEX"};
  static inline const nt::Member<i32> Count{kType, "Count"};
  static inline const nt::Member<VirtAddr> Owner{kType, "Owner"};
  static inline const nt::Member<u32> Contention{kType, "Contention"};
  static inline const nt::Member<nt::Inside> Event{kType, "Event"};
};

struct KGUARDED_MUTEX {
  static constexpr nt::TypeName kType{"_KGUARDED_MUTEX"};
  static inline const nt::Member<i32> Count{kType, "Count"};
  static inline const nt::Member<VirtAddr> Owner{kType, "Owner"};
  static inline const nt::Member<u32> Contention{kType, "Contention"};
  static inline const nt::Member<nt::Inside> Gate{kType, "Gate"};
};

struct Form {
  const char* kind;
  const nt::Member<i32>& count;
  const nt::Member<VirtAddr>& owner;
  const nt::Member<u32>& contention;
  const nt::MemberLine& event;
};

// wdm.h: FM_LOCK_BIT 1 is set in a free mutex, FM_LOCK_WAITER_WOKEN is 2, and each waiter adds
// FM_LOCK_WAITER_INC, 4. Older forms count down from 1: 0 is held, each waiter takes one.
bool held(i32 count) {
  constexpr i32 kFree = 1, kMost = 0x10000;
  return count > -kMost && count < kMost * 4 && (count <= 0 || (count & kFree) == 0);
}

// Whether a wait object is the inside of a held mutex of that form. A waiter means that somebody owns it.
bool try_form(World& world, ThreadNode& t, VirtAddr object, const Form& form) {
  const auto inside = world.target().bind(form.event);
  if (!inside) return false;
  const nt::Object mutex(world.target(), object - inside->offset);
  const auto count = mutex[form.count];
  const auto owner = mutex[form.owner];
  if (!count || !owner || !held(*count)) return false;
  const VirtAddr thread(owner->value() & ~u64{7});
  if (!thread.is_null() && !nt::is_thread(world.target(), thread)) return false;
  Lock fresh{.address = mutex.va(),
             .kind = form.kind,
             .mode = "exclusive",
             .contention = mutex.value_or(form.contention, 0),
             .confidence = inside->confidence};
  fresh.name = world.target().symbolize(mutex.va());
  if (!thread.is_null()) {
    fresh.owners.push_back(
        {.thread = thread, .count = 1, .alive = world.alive(thread), .confidence = inside->confidence});
  }
  Lock& lock = world.add_lock(std::move(fresh));
  lock.waiters.push_back(
      {.thread = t.thread.address, .access = "exclusive", .waited_ms = t.thread.waited_ms});
  world.add_wait(t, {.object = object,
                     .kind = form.kind,
                     .nature = WaitNature::lock,
                     .detail = "exclusive access",
                     .confidence = inside->confidence});
  world.add_edge({.from = t.thread.address,
                  .to = thread,
                  .kind = form.kind,
                  .object = mutex.va(),
                  .confidence = inside->confidence,
                  .note = thread.is_null() ? "the mutex names no owner" : ""});
  return true;
}

void find(World& world) {
  const Form fast{"FAST_MUTEX", FAST_MUTEX::Count, FAST_MUTEX::Owner, FAST_MUTEX::Contention,
                  FAST_MUTEX::Event};
  const Form guarded{"KGUARDED_MUTEX", KGUARDED_MUTEX::Count, KGUARDED_MUTEX::Owner,
                     KGUARDED_MUTEX::Contention, KGUARDED_MUTEX::Gate};
  for (ThreadNode& t : world.threads) {
    if (!t.waiting() ||
        (t.thread.wait_reason != nt::kWrFastMutex && t.thread.wait_reason != nt::kWrGuardedMutex))
      continue;
    for (const nt::WaitBlock& block : t.thread.wait_blocks) {
      const bool first = t.thread.wait_reason == nt::kWrGuardedMutex;
      if (try_form(world, t, block.object, first ? guarded : fast) ||
          try_form(world, t, block.object, first ? fast : guarded))
        break;
    }
  }
  // Owners outside of all lists. Last: this moves the threads.
  for (const Lock& lock : std::vector<Lock>(world.locks))
    if (lock.kind == fast.kind || lock.kind == guarded.kind)
      for (const LockOwner& o : lock.owners) world.find_or_adopt(o.thread);
}

}  // namespace

extern const WaitKind fast_mutex_kind;
const WaitKind fast_mutex_kind{.name = "fast mutex", .order = 20, .find = find};

}  // namespace unhang::waits
