// The pages of a kdump-compressed file.
#pragma once

#include "dump/logical_file.h"
#include "dump/page_bitmap.h"
#include "dump/page_cache.h"
#include "dump/page_codec.h"

namespace unhang::dump {

// Where the parts of the file are, as its checked header says.
struct KdumpLayout {
  u64 bitmap = 0;        // the first of two equally large bitmaps: pages that the machine has
  u64 bitmap_bytes = 0;  // the size of one
  u64 descriptors = 0;   // one for each set bit of the second bitmap: pages that the file has
  u64 pages = 0;         // bits in a bitmap
  // The part of a dump that was split over several files; all pages otherwise.
  u64 first_pfn = 0, last_pfn = ~u64{0};
};

class KdumpSource final : public PageSource<PhysAddr> {
 public:
  // stored: the second bitmap; bits keeps its bytes when they do not lie in the mapped file.
  KdumpSource(LogicalFile file, const KdumpLayout& layout, PageBitmap stored, std::vector<u8> bits);

  Result<Slice> at(PhysAddr pa) const override;
  std::span<const PhysRange> ranges() const override { return ranges_; }
  // Nothing for a compressed page: its bytes lie in no one place.
  std::optional<u64> file_offset(PhysAddr pa) const override;
  void will_read(PhysRange range) const override;
  // Without the pages that share the one stored page of zeros, which QEMU puts first.
  std::vector<PhysRange> populated() const override;

  u64 stored() const { return count_; }
  // How many of them a truncated file has lost at least, if its data are in the order of the pages.
  u64 lost() const;

 private:
  // Page descriptor: {u64 offset; u32 size; u32 flags; u64 page_flags}.
  struct Descriptor {
    u64 offset = 0;
    u32 size = 0;
    u32 flags = 0;
  };
  static constexpr u64 kDescriptorSize = 24;

  u64 index_of(u64 pfn) const { return stored_.rank(pfn) - before_; }
  bool has(u64 pfn) const { return pfn >= layout_.first_pfn && pfn < layout_.last_pfn && stored_.test(pfn); }
  std::optional<Descriptor> descriptor(u64 index) const;
  bool complete(u64 index) const;
  u64 shared_offset() const;
  // Where the shared page of zeros is if there is one: first among the data, right behind the descriptors.
  u64 page_of_zeros() const { return layout_.descriptors + count_ * kDescriptorSize; }
  Error missing(PhysAddr pa) const;

  LogicalFile file_;
  KdumpLayout layout_;
  std::vector<u8> bits_;
  PageBitmap stored_;
  u64 before_ = 0;  // set bits before first_pfn
  u64 count_ = 0;
  std::vector<PhysRange> ranges_;
  mutable PageCache cache_;
};

}  // namespace unhang::dump
