#include "nt/objects/queued_lock.h"

#include <algorithm>

#include "nt/objects/cpu.h"

namespace unhang::nt {

namespace {

constexpr u64 kWaits = 1, kOwns = 2, kFlags = 3;
constexpr u64 kPlaceSize = 0x10, kLockInPlace = 8;

struct Name {
  std::string_view name, title;
};
constexpr Name kNames[] = {{"LockQueueUnusedSpare0", "KE   - Unused Spare"},
                           {"LockQueueUnusedSpare1", "KE   - Unused Spare"},
                           {"LockQueueUnusedSpare2", "MM   - Unused Spare"},
                           {"LockQueueUnusedSpare3", "MM   - Unused Spare"},
                           {"LockQueueVacbLock", "CC   - Vacb"},
                           {"LockQueueMasterLock", "CC   - Master"},
                           {"LockQueueNonPagedPoolLock", "EX   - NonPagedPool"},
                           {"LockQueueIoCancelLock", "IO   - Cancel"},
                           {"LockQueueUnusedSpare8", "EX   - Unused Spare"},
                           {"LockQueueIoVpbLock", "IO   - Vpb"},
                           {"LockQueueIoDatabaseLock", "IO   - Database"},
                           {"LockQueueIoCompletionLock", "IO   - Completion"},
                           {"LockQueueNtfsStructLock", "NTFS - Struct"},
                           {"LockQueueAfdWorkQueueLock", "AFD  - WorkQueue"},
                           {"LockQueueBcbLock", "CC   - Bcb"},
                           {"LockQueueUnusedSpare15", "KE   - Unused Spare"},
                           {"LockQueueUnusedSpare16", "KE   - Unused Spare"}};

struct NumberedPlace {
  u32 cpu = 0;
  LockQueuePlace place;
};

// Waiters in the order in which their places follow each other; those that no link leads to come last.
std::vector<u32> in_order(VirtAddr first, std::vector<NumberedPlace> waiting) {
  std::vector<u32> out;
  for (VirtAddr next = first; !waiting.empty();) {
    const auto it = std::find_if(waiting.begin(), waiting.end(),
                                 [&](const NumberedPlace& p) { return p.place.address == next; });
    if (it == waiting.end()) break;
    out.push_back(it->cpu);
    next = it->place.next;
    waiting.erase(it);
  }
  for (const NumberedPlace& p : waiting) out.push_back(p.cpu);
  return out;
}

}  // namespace

std::optional<LockQueuePlace> read_queue_place(const Target& target, VirtAddr address) {
  const auto next = memory::read<VirtAddr>(target.kernel(), address);
  const auto lock = memory::read<u64>(target.kernel(), address + kLockInPlace);
  if (!next || !lock) return std::nullopt;
  const LockQueuePlace p{.address = address,
                         .next = *next,
                         .lock = VirtAddr(*lock & ~kFlags),
                         .waits = (*lock & kWaits) != 0,
                         .owns = (*lock & kOwns) != 0};
  if (!is_kernel(p.lock) || p.lock.value() % 8 != 0) return std::nullopt;
  return p;
}

bool is_queued(const Target& target, const LockQueuePlace& place) {
  const auto stands_for_it = [&](VirtAddr at) {
    if (!is_kernel(at) || at.value() % 8 != 0) return false;
    const auto other = read_queue_place(target, at);
    return other && other->lock == place.lock;
  };
  const auto last = memory::read<VirtAddr>(target.kernel(), place.lock);
  if (!last || !stands_for_it(*last)) return false;
  return *last == place.address || stands_for_it(place.next);
}

Result<std::vector<NumberedLock>> read_numbered_locks(const Target& target) {
  std::vector<NumberedLock> out;
  for (u32 i = 0; i < std::size(kNames); i++) {
    NumberedLock lock{.number = i, .name = kNames[i].name, .title = kNames[i].title};
    std::vector<NumberedPlace> waiting;
    VirtAddr first;
    for (const Cpu& cpu : target.cpus()) {
      const VirtAddr queues = TRY(Object(target, cpu.kprcb).address(KPRCB::LockQueue));
      const auto place = read_queue_place(target, queues + i * kPlaceSize);
      if (!place) continue;
      if (lock.lock.is_null()) lock.lock = place->lock;
      if (place->waits) {
        waiting.push_back({cpu.number, *place});
      } else if (place->owns || is_queued(target, *place)) {
        lock.owner = cpu.number;
        first = place->next;
      }
    }
    lock.waiters = in_order(first, std::move(waiting));
    out.push_back(std::move(lock));
  }
  return out;
}

}  // namespace unhang::nt
