// Queued spin locks: each processor that wants one brings a place in the queue, and turns in a loop on its
// own place. The lock is the address of the last place, each place holds the address of the next one and that
// of the lock. Facts: KSPIN_LOCK_QUEUE, KLOCK_QUEUE_HANDLE, KSPIN_LOCK_QUEUE_NUMBER (wdm.h); bits 0 and 1 of
// Lock are LOCK_QUEUE_WAIT and LOCK_QUEUE_OWNER (public NDK headers). Whether an owner sets the second one is
// not documented for x64: who has a place in the queue and does not wait is the owner as well.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "nt/target.h"

namespace unhang::nt {

// One place in a queue.
struct LockQueuePlace {
  VirtAddr address{}, next{}, lock{};
  bool waits = false, owns = false;
};

// Nothing: the quadword behind `address` is no lock's address.
std::optional<LockQueuePlace> read_queue_place(const Target& target, VirtAddr address);

// Whether a place is in its lock's queue now: it is the last one, or the next one stands for the same lock.
bool is_queued(const Target& target, const LockQueuePlace& place);

// The numbered locks of the kernel, whose places lie in every processor's KPRCB.
struct NumberedLock {
  u32 number = 0;
  std::string_view name;   // "LockQueueIoCancelLock" (wdm.h)
  std::string_view title;  // "IO   - Cancel": as !qlocks calls it
  VirtAddr lock{};
  // Processors by Windows' number: who has it (nobody when that place cannot be read), then who waits, in
  // the order of the queue as far as its links tell.
  std::optional<u32> owner;
  std::vector<u32> waiters;
};

// All of them, held or not. Errors: no_member.
Result<std::vector<NumberedLock>> read_numbered_locks(const Target& target);

}  // namespace unhang::nt
