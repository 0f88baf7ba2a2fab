#include "nt/objects/lock_entry.h"

#include "nt/objects/thread.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {

constexpr u64 kSlots = 6;

Result<VirtAddr> slots_of(const Object& thread) {
  if (thread.has(ETHREAD::LockEntries)) return thread.address(ETHREAD::LockEntries);
  if (thread.has(KTHREAD::LockEntries)) return thread.address(KTHREAD::LockEntries);
  return thread[KTHREAD::KernelAbEntries];
}

}  // namespace

// A slot that is free has neither byte set: seen in a real dump of 19041, where AbEntrySummary is 0x3f (it
// counts what is free) and all six slots are zero but for EntryOffset and a SessionState of ffffffff.
std::vector<LockEntry> read_lock_entries(const Target& target, VirtAddr thread) {
  std::vector<LockEntry> out;
  const auto slots = slots_of(Object(target, thread));
  const auto size = target.layouts().size_of("_KLOCK_ENTRY");
  if (!slots || !size || *size == 0 || *size > 0x200 || !is_kernel(*slots)) return out;
  for (u64 i = 0; i < kSlots; i++) {
    const Object entry(target, *slots + i * *size);
    const auto at = entry.address(KLOCK_ENTRY::LockState);
    const auto state = at ? memory::read<u64>(target.kernel(), *at) : fail(at.error());
    if (!state) continue;
    // Bits 0 and 1 are flags, bit 63 says whether the entry is in a tree.
    const VirtAddr lock((*state & ~u64{3}) | u64{1} << 63);
    if (!is_kernel(lock) || lock.value() % 8 != 0) continue;
    LockEntry e{.lock = lock, .confidence = target.bind(KLOCK_ENTRY::LockState).value_or(Bound{}).confidence};
    if (entry.has(KLOCK_ENTRY::Waiting) && entry.has(KLOCK_ENTRY::Acquired)) {
      e.waiting = entry.value_or(KLOCK_ENTRY::Waiting, 0) != 0;
      e.acquired = entry.value_or(KLOCK_ENTRY::Acquired, 0) != 0;
    } else if (const auto flags = entry.address(KLOCK_ENTRY::EntryFlags)) {
      // Second and third byte of the flags from 10.0.14393 to 22631; nobody says so of later builds.
      e.waiting = memory::read<u8>(target.kernel(), *flags + 1).value_or(0) != 0;
      e.acquired = memory::read<u8>(target.kernel(), *flags + 2).value_or(0) != 0;
      e.confidence = Confidence::guess;
    }
    if (e.waiting || e.acquired) out.push_back(e);
  }
  return out;
}

}  // namespace unhang::nt
