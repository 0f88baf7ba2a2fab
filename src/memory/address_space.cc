#include "memory/address_space.h"

#include <bit>

#include "memory/read.h"

namespace unhang::memory {

namespace {

constexpr u64 kFrameMask = 0x000f'ffff'ffff'f000;  // bits 12..51
constexpr u64 kValid = 1 << 0, kLargePage = 1 << 7;
// MMPTE_TRANSITION and MMPTE_SOFTWARE: the same places on every x64 build.
constexpr u64 kSwizzle = 1 << 4, kPrototype = 1 << 10, kTransition = 1 << 11;
constexpr size_t kCacheSize = 1024;

}  // namespace

AddressSpace::AddressSpace(const Source<PhysAddr>& physical, PhysAddr dtb, PagingRules rules)
    : physical_(physical), dtb_(PhysAddr(dtb.value() & kFrameMask)), rules_(rules) {}

// The frame of a transition entry, with the L1TF bit taken away where it stands beyond RAM.
PhysAddr AddressSpace::frame(u64 entry) const {
  u64 pa = entry & 0x0000'ffff'ffff'f000;  // _MMPTE_TRANSITION.PageFrameNumber: bits 12..47
  const u64 end = rules_.end_of_ram.value();
  if (end != 0 && pa >= end && (entry & kSwizzle) == 0) pa &= std::bit_ceil(end) - 1;
  return PhysAddr(pa);
}

// An entry with the valid bit clear, as Windows uses it. At levels above 1 it describes a page table.
Result<Mapping> AddressSpace::software_entry(VirtAddr va, u64 entry, u8 level, int depth) const {
  const Error absent{.why = Why::not_present, .level = level, .va = va};
  if (entry == 0) return fail(absent);
  if ((entry & kPrototype) != 0) {
    // A shared page: the real entry lies elsewhere in kernel memory (bits 16..63, sign-extended). A value of
    // 0xffffffff0000 means "look the VAD up": the page was never touched by this process.
    const VirtAddr prototype(static_cast<u64>(static_cast<i64>(entry) >> 16));
    if (!is_kernel(prototype) || (entry >> 16) == 0xffff'ffff'0000 || depth > 0)
      return fail(Error{
          .why = Why::paged_out, .level = level, .va = va, .detail = "prototype entry, no page in RAM"});
    u64 value = 0;
    {
      const Result<Mapping> m = lookup(prototype, depth + 1, nullptr);
      if (!m && m.error().why == Why::not_in_dump)
        return fail(Error{.why = Why::not_in_dump,
                          .level = level,
                          .va = va,
                          .pa = m.error().pa,
                          .detail = "a page table on the way to its prototype entry is missing"});
      if (!m)
        return fail(Error{
            .why = Why::paged_out, .level = level, .va = va, .detail = "its prototype entry cannot be read"});
      const Result<u64> v = read<u64>(physical_, m->pa);
      if (!v) return fail(Error{.why = Why::not_in_dump, .level = level, .va = va, .pa = m->pa});
      value = *v;
    }
    if ((value & kValid) != 0) return Mapping{PhysAddr(value & kFrameMask), kPageSize, Via::prototype};
    if ((value & kPrototype) == 0 && (value & kTransition) != 0)
      return Mapping{frame(value), kPageSize, Via::prototype};
    return fail(Error{.why = Why::paged_out,
                      .level = level,
                      .va = va,
                      .detail = (value & kPrototype) != 0 ? "in its file, not in RAM"
                                : (value >> 32) == 0      ? "demand zero"
                                                          : "in the page file"});
  }
  if ((entry & kTransition) != 0) return Mapping{frame(entry), kPageSize, Via::transition};
  // _MMPTE_SOFTWARE: PageFileHigh (bits 32..63) zero means demand zero, else an offset in a page file. With
  // the swizzle bit clear the mask of L1TF lies over it; both then read as "not in RAM".
  const bool demand_zero = (entry >> 32) == 0;
  return fail(Error{.why = Why::paged_out,
                    .level = level,
                    .va = va,
                    .detail = demand_zero ? "demand zero, never touched" : "in the page file"});
}

Result<Mapping> AddressSpace::lookup(VirtAddr va, int depth, std::vector<Step>* steps) const {
  if (!is_canonical(va, rules_.levels)) return fail(Error{.why = Why::bad_address, .va = va});
  PhysAddr table = dtb_;
  for (u8 level = static_cast<u8>(rules_.levels); level >= 1; level--) {
    const int shift = 12 + 9 * (level - 1);
    const PhysAddr entry_pa = table + ((va.value() >> shift) & 0x1ff) * 8;
    const Result<u64> entry = read<u64>(physical_, entry_pa);
    if (!entry) {
      Error e = entry.error();
      e.level = level;
      e.va = va;
      e.detail = "a page table is missing";
      return fail(e);
    }
    if (steps != nullptr) steps->push_back({level, entry_pa, *entry});
    const u64 in_page = va.value() & ((u64{1} << shift) - 1);
    if ((*entry & kValid) == 0) {
      Mapping m = TRY(software_entry(va, *entry, level, depth));
      if (level == 1) {
        m.pa += in_page;
        return m;
      }
      table = m.pa;  // an outswapped page table that is still in RAM
      continue;
    }
    if (level == 1) return Mapping{PhysAddr((*entry & kFrameMask) + in_page), kPageSize, Via::valid};
    if (level <= 3 && (*entry & kLargePage) != 0) {
      const u64 base = *entry & kFrameMask & ~((u64{1} << shift) - 1);
      return Mapping{PhysAddr(base + in_page), u64{1} << shift, Via::valid};
    }
    table = PhysAddr(*entry & kFrameMask);
  }
  return fail(Error{.why = Why::not_present, .va = va});
}

Result<Mapping> AddressSpace::translate(VirtAddr va) const {
  return lookup(va, 0, nullptr);
}

Walk AddressSpace::walk(VirtAddr va) const {
  Walk w;
  w.mapping = lookup(va, 0, &w.steps);
  return w;
}

Result<Slice> AddressSpace::at(VirtAddr va) const {
  if (cache_.empty()) cache_.resize(kCacheSize);
  const u64 page = va.value() >> kPageShift;
  Cached& cached = cache_[(page ^ page >> 10) % kCacheSize];
  if (cached.page == page) return Slice{cached.data + va.page_offset(), va.left_in_page(), {}};
  const Mapping m = TRY(lookup(va, 0, nullptr));
  // Only whole pages of mapped files are cached: their bytes stay where they are.
  if (const auto whole = physical_.at(m.pa.page());
      whole && whole->size == kPageSize && whole->keep == nullptr) {
    cached = {page, whole->data};
    return Slice{whole->data + va.page_offset(), va.left_in_page(), {}};
  }
  Result<Slice> slice = physical_.at(m.pa);
  if (slice) return slice;
  Error e = slice.error();
  e.va = va;
  return fail(e);
}

}  // namespace unhang::memory
