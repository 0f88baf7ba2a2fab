// AutoBoost lock entries (Windows 8.1 and later): six slots of each thread that say which push locks and fast
// mutexes it holds or waits for. The lock itself does not name its owner; these do.
// Facts: public PDBs (_KLOCK_ENTRY, _KLOCK_ENTRIES); what AutoBoost tracks: Windows Internals, 7th edition.
#pragma once

#include <vector>

#include "nt/object.h"

namespace unhang::nt {

struct KLOCK_ENTRY {
  static constexpr TypeName kType{"_KLOCK_ENTRY"};
  static inline const Member<Inside> LockState{kType, "LockState"};
  static inline const Member<u8> Waiting{kType, "WaitingBit", "WaitingByte", "LockState.Waiting"};
  static inline const Member<u8> Acquired{kType, "AcquiredBit", "AcquiredByte"};
};

// Where the slots of 10.0.26100 lie: in a block of their own, as many as it says.
struct KLOCK_ENTRIES {
  static constexpr TypeName kType{"_KLOCK_ENTRIES"};
  static inline const Member<u8> EntryCount{kType, "EntryCount"};
  static inline const Member<Inside> Entries{kType, "Entries"};
};

struct LockEntry {
  VirtAddr lock{};
  bool waiting = false;
  bool acquired = false;
  Confidence confidence = Confidence::exact;
};

// The slots of a thread that are in use. Locks are acquired without a lock around these lists: whoever leans
// on an entry looks at the lock as well. None where the build has no AutoBoost or the slots cannot be read.
std::vector<LockEntry> read_lock_entries(const Target& target, VirtAddr thread);

}  // namespace unhang::nt
