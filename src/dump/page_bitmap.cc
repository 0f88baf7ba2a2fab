#include "dump/page_bitmap.h"

#include <bit>
#include <cstring>

#include "base/check.h"

namespace unhang::dump {

namespace {
constexpr u64 kBlock = 4096;  // bits an index entry

// Bits [first, last) of the map, 64 at a time; the tail beyond `last` is masked away.
u64 word(const u8* bytes, u64 size, u64 first) {
  u64 w = 0;
  const u64 at = first / 8;
  std::memcpy(&w, bytes + at, std::min<u64>(8, size - at));
  return w;
}
}  // namespace

PageBitmap::PageBitmap(ByteView bits, u64 count) : bits_(bits), count_(count) {
  UNHANG_CHECK(bits.size() >= count / 8 + (count % 8 != 0 ? 1 : 0));
  before_.reserve(count / kBlock + 1);
  for (u64 i = 0; i < count; i += 64) {
    if (i % kBlock == 0) before_.push_back(total_);
    u64 w = word(bits.data(), bits.size(), i);
    if (count - i < 64) w &= (u64{1} << (count - i)) - 1;
    total_ += static_cast<u64>(std::popcount(w));
  }
}

u64 PageBitmap::rank(u64 pfn) const {
  if (pfn >= count_) return total_;
  u64 n = before_[pfn / kBlock];
  for (u64 i = pfn / kBlock * kBlock; i < pfn; i += 64) {
    u64 w = word(bits_.data(), bits_.size(), i);
    if (pfn - i < 64) w &= (u64{1} << (pfn - i)) - 1;
    n += static_cast<u64>(std::popcount(w));
  }
  return n;
}

std::vector<PhysRange> PageBitmap::ranges() const {
  std::vector<PhysRange> out;
  auto add = [&](u64 pfn, u64 pages) {
    const PhysAddr start = Pfn{pfn}.address();
    if (!out.empty() && out.back().end() == start)
      out.back().size += pages << kPageShift;
    else
      out.push_back({start, pages << kPageShift});
  };
  for (u64 i = 0; i < count_; i += 64) {
    u64 w = word(bits_.data(), bits_.size(), i);
    if (count_ - i < 64) w &= (u64{1} << (count_ - i)) - 1;
    while (w != 0) {
      const int first = std::countr_zero(w);
      const int length = std::countr_one(w >> first);
      add(i + static_cast<u64>(first), static_cast<u64>(length));
      if (first + length >= 64) break;
      w &= ~u64{0} << (first + length);
    }
  }
  return out;
}

}  // namespace unhang::dump
