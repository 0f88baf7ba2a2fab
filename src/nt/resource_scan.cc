#include "nt/resource_scan.h"

#include <unordered_set>

#include "memory/read.h"
#include "nt/objects/eresource.h"
#include "nt/objects/thread.h"

namespace unhang::nt {

namespace {

constexpr u64 kMostData = u64{32} << 20;  // bytes of writable data; 19041 has 4 MiB
constexpr size_t kMostRing = 8192;

// Somebody who exists holds it.
bool held(const Target& target, VirtAddr va) {
  const auto entry = Object(target, va).address(ERESOURCE::OwnerEntry);
  if (!entry) return false;
  const auto thread = Object(target, *entry)[OWNER_ENTRY::OwnerThread];
  return thread && is_thread(target, VirtAddr(thread->value() & ~u64{3}));
}

struct Ring {
  VirtAddr resource{};
  size_t held = 0, members = 0;
};

Ring judge(const Target& target, VirtAddr link, u64 offset, std::unordered_set<VirtAddr>& seen) {
  Ring ring;
  size_t others = 0;  // the head is no resource; a second one shows that this is another list
  VirtAddr at = link;
  for (size_t n = 0; n < kMostRing; n++) {
    const auto links = memory::read<ListEntry>(target.kernel(), at);
    if (!links || !is_kernel(links->flink)) break;
    const VirtAddr resource = at - offset;
    if (is_whole_resource(target, resource)) {
      ring.members++;
      if (held(target, resource)) ring.held++;
      if (ring.resource.is_null()) ring.resource = resource;
    } else if (!target.nt().contains(at) || ++others > 1) {
      return {};
    }
    seen.insert(at);
    at = links->flink;
    if (at == link) return ring;
  }
  // The ring is torn: what was seen of it still counts.
  return ring;
}

}  // namespace

VirtAddr find_listed_resource(const Target& target) {
  const auto link = target.bind(ERESOURCE::SystemResourcesList);
  const image::Image* image = target.nt().image();
  if (!link || image == nullptr) return {};
  std::unordered_set<VirtAddr> seen;
  Ring best;
  u64 looked_at = 0;
  for (const image::Section& section : image->sections()) {
    if (!section.writable() || looked_at > kMostData) continue;
    looked_at += section.size;
    const VirtAddr start = target.kernel_base() + section.rva.value();
    const auto data = memory::read_sparse(target.kernel(), start, std::min(section.size, kMostData));
    const ByteView bytes(data.bytes);
    for (u64 at = 0; at + 16 <= bytes.size(); at += 8) {
      const VirtAddr flink(bytes.at<u64>(at)), blink(bytes.at<u64>(at + 8)), here = start + at;
      if (!is_kernel(flink) || !is_kernel(blink) || flink == here || flink.value() % 8 != 0 ||
          seen.contains(here))
        continue;
      const auto next = memory::read<ListEntry>(target.kernel(), flink);
      if (!next || next->blink != here) continue;
      const Ring ring = judge(target, here, link->offset, seen);
      if (ring.held > best.held || (ring.held == best.held && ring.held > 0 && ring.members > best.members))
        best = ring;
    }
  }
  return best.resource;
}

}  // namespace unhang::nt
