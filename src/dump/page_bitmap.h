// A bitmap with one bit a page, LSB first, as Windows bitmap dumps and kdump files have it: which pages are
// there, and how many set bits come before one (its place among the stored pages).
#pragma once

#include <vector>

#include "base/bytes.h"
#include "dump/pages.h"

namespace unhang::dump {

class PageBitmap {
 public:
  PageBitmap() = default;
  // bits: at least (count + 7) / 8 bytes, which stay mapped as long as this object lives.
  PageBitmap(ByteView bits, u64 count);

  u64 count() const { return count_; }  // bits
  u64 total() const { return total_; }  // set bits
  bool test(u64 pfn) const { return pfn < count_ && (bits_.data()[pfn / 8] >> (pfn % 8) & 1) != 0; }
  // Set bits before pfn.
  u64 rank(u64 pfn) const;
  // Runs of set bits as physical ranges.
  std::vector<PhysRange> ranges() const;

 private:
  ByteView bits_;
  u64 count_ = 0;
  u64 total_ = 0;
  std::vector<u64> before_;  // set bits before every 4096th bit
};

}  // namespace unhang::dump
