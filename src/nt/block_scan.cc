#include "nt/block_scan.h"

#include "nt/objects/eresource.h"
#include "nt/objects/irp.h"
#include "nt/objects/thread.h"

namespace unhang::nt {

namespace {

constexpr u64 kStep = 8;  // kernel objects are aligned at least so
constexpr u64 kMostBytes = u64{256} << 20;

// A resource that is held by a thread that is in the dump.
bool held_resource(const Target& target, VirtAddr va) {
  const Object o(target, va);
  const auto links = o[ERESOURCE::SystemResourcesList];
  if (!links || !is_kernel(links->flink) || !is_kernel(links->blink) || links->flink.value() % 8 != 0 ||
      links->blink.value() % 8 != 0)
    return false;
  const auto active = o[ERESOURCE::ActiveCount];
  const auto shared = o[ERESOURCE::NumberOfSharedWaiters], exclusive = o[ERESOURCE::NumberOfExclusiveWaiters];
  if (!active || *active <= 0 || *active > 1000 || !shared || !exclusive || *shared > 10000 ||
      *exclusive > 10000)
    return false;
  const auto entry = o.address(ERESOURCE::OwnerEntry);
  if (!entry) return false;
  const Object owner(target, *entry);
  const auto thread = owner[OWNER_ENTRY::OwnerThread];
  const auto count = owner[OWNER_ENTRY::OwnerCount];
  return thread && count && *count != 0 && *count < 1000 &&
         is_thread(target, VirtAddr(thread->value() & ~u64{3}));
}

bool whole_irp(const Target& target, VirtAddr va) {
  if (!is_irp(target, va)) return false;
  const auto irp = read_irp(target, va);
  if (!irp || !irp->consistent || irp->stack_count == 0) return false;
  const u64 needed = target.layouts().size_of("_IRP").value_or(0xd0) +
                     irp->stack_count * target.layouts().size_of("_IO_STACK_LOCATION").value_or(0x48);
  return irp->size >= needed;
}

}  // namespace

BlockScan scan_blocks(const Target& target) {
  BlockScan found;
  if (!target.dump().virtual_blocks) return found;
  u64 seen = 0;
  for (const dump::VirtRange& range : target.dump().virtual_blocks->ranges()) {
    if (!is_kernel(range.start)) continue;
    seen += range.size;
    if (seen > kMostBytes) break;
    for (u64 at = (kStep - range.start.value() % kStep) % kStep; at + 0x40 <= range.size; at += kStep) {
      const VirtAddr va = range.start + at;
      if (held_resource(target, va))
        found.resources.push_back(va);
      else if (whole_irp(target, va))
        found.irps.push_back(va);
    }
  }
  return found;
}

}  // namespace unhang::nt
