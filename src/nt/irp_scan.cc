#include "nt/irp_scan.h"

#include <algorithm>

#include "base/bytes.h"
#include "nt/block_scan.h"
#include "nt/objects/device.h"
#include "nt/objects/irp.h"

namespace unhang::nt {

namespace {

constexpr u64 kPoolStep = 16;  // pool is aligned so on x64
constexpr u8 kMostLocations = 126;

// Where the members lie that the shape is made of.
struct Shape {
  u32 type, size, stack_count, current_location, current;
  u64 irp, location;  // sizes
};

Result<Shape> shape_of(const Target& target) {
  Shape s{};
  s.type = TRY(target.bind(IRP::Type)).offset;
  s.size = TRY(target.bind(IRP::Size)).offset;
  s.stack_count = TRY(target.bind(IRP::StackCount)).offset;
  s.current_location = TRY(target.bind(IRP::CurrentLocation)).offset;
  s.current = TRY(target.bind(IRP::CurrentStackLocation)).offset;
  s.irp = TRY(target.layouts().size_of("_IRP"));
  s.location = TRY(target.layouts().size_of("_IO_STACK_LOCATION"));
  // The pointer is the last of them in every build; nothing is read behind it.
  if (std::max({s.type, s.size, s.stack_count, s.current_location}) >= s.current || s.current + 8 > s.irp)
    return fail(Error{.why = Why::implausible, .type = "_IRP", .member = "Tail"});
  return s;
}

// The address that a pending IRP at an offset of a page says it has; null: there is none.
VirtAddr irp_at(const u8* page, u64 at, const Shape& s) {
  const ByteView b(page + at, kPageSize - at);
  if (b.at<u16>(s.type) != kIoTypeIrp) return {};
  const u8 count = b.at<u8>(s.stack_count), current = b.at<u8>(s.current_location);
  if (count == 0 || count > kMostLocations || current == 0 || current > count) return {};
  if (b.at<u16>(s.size) < s.irp + count * s.location) return {};
  const VirtAddr va(b.at<u64>(s.current) - s.irp - (current - u64{1}) * s.location);
  return is_kernel(va) && va.value() % kPageSize == at ? va : VirtAddr();
}

template <class Visit>
void for_each_irp(const u8* page, const Shape& s, Visit&& visit) {
  for (u64 at = 0; at + s.current + 8 <= kPageSize; at += kPoolStep)
    if (const VirtAddr va = irp_at(page, at, s); !va.is_null()) visit(va);
}

}  // namespace

namespace {

std::function<bool(const u8* page)> page_test(const Shape& shape) {
  return [shape](const u8* page) {
    bool any = false;
    for_each_irp(page, shape, [&](VirtAddr) { any = true; });
    return any;
  };
}

}  // namespace

Result<std::function<bool(const u8* page)>> irp_page_test(const Target& target) {
  return page_test(TRY(shape_of(target)));
}

IrpScan find_irps(const Target& target, const dump::ScanOptions& options) {
  IrpScan out;
  const auto pending = [&](VirtAddr va) {
    const auto irp = read_irp(target, va);
    return irp && irp->consistent && irp->current() != nullptr;
  };
  if (target.physical() == nullptr || target.paging() == nullptr) {
    for (const VirtAddr va : scan_blocks(target).irps)
      if (pending(va)) out.irps.push_back(va);
  } else if (const auto shape = shape_of(target)) {
    const dump::PageScan scan = dump::scan_pages(*target.physical(), options, page_test(*shape));
    out.bytes_scanned = scan.bytes_scanned;
    out.bytes_total = scan.bytes_total;
    for (const PhysAddr page : scan.pages) {
      const auto slice = target.physical()->at(page);
      if (!slice || slice->size != kPageSize) continue;
      for_each_irp(slice->data, *shape, [&](VirtAddr va) {
        const auto here = target.paging()->translate(va);
        if (here && here->pa == page + va.value() % kPageSize && pending(va)) out.irps.push_back(va);
      });
    }
  }
  std::sort(out.irps.begin(), out.irps.end());
  return out;
}

}  // namespace unhang::nt
