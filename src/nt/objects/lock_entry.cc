#include "nt/objects/lock_entry.h"

#include <algorithm>

#include "nt/objects/thread.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {

constexpr u64 kSlots = 6;
constexpr u8 kMostSlots = 64;  // of a block that says how many it has

struct Slots {
  VirtAddr first{};
  u64 count = kSlots;
};

Result<Slots> slots_of(const Target& target, VirtAddr va) {
  const Object thread(target, va);
  if (thread.has(ETHREAD::LockEntries)) return Slots{TRY(thread.address(ETHREAD::LockEntries))};
  if (thread.has(KTHREAD::LockEntries)) return Slots{TRY(thread.address(KTHREAD::LockEntries))};
  const Object block(target, TRY(thread[KTHREAD::KernelAbEntries]));
  if (!is_kernel(block.va())) return Slots{.count = 0};
  return Slots{TRY(block.address(KLOCK_ENTRIES::Entries)),
               std::min(TRY(block[KLOCK_ENTRIES::EntryCount]), kMostSlots)};
}

}  // namespace

// A slot that is free has neither byte set: seen in a real dump of 19041, where AbEntrySummary is 0x3f (it
// counts what is free) and all six slots are zero but for EntryOffset and a SessionState of ffffffff.
std::vector<LockEntry> read_lock_entries(const Target& target, VirtAddr thread) {
  std::vector<LockEntry> out;
  const auto slots = slots_of(target, thread);
  const auto size = target.layouts().size_of("_KLOCK_ENTRY");
  if (!slots || !size || *size == 0 || *size > 0x200 || !is_kernel(slots->first)) return out;
  for (u64 i = 0; i < slots->count; i++) {
    const Object entry(target, slots->first + i * *size);
    const auto at = entry.address(KLOCK_ENTRY::LockState);
    const auto state = at ? memory::read<u64>(target.kernel(), *at) : fail(at.error());
    if (!state) continue;
    // Bits 0 and 1 are flags, bit 63 says whether the entry is in a tree.
    const VirtAddr lock((*state & ~u64{3}) | u64{1} << 63);
    if (!is_kernel(lock) || lock.value() % 8 != 0) continue;
    LockEntry e{.lock = lock, .confidence = target.bind(KLOCK_ENTRY::LockState).value_or(Bound{}).confidence};
    e.waiting = entry.value_or(KLOCK_ENTRY::Waiting, 0) != 0;
    e.acquired = entry.value_or(KLOCK_ENTRY::Acquired, 0) != 0;
    if (e.waiting || e.acquired) out.push_back(e);
  }
  return out;
}

}  // namespace unhang::nt
