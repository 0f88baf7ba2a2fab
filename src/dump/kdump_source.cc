#include "dump/kdump_source.h"

#include <algorithm>

namespace unhang::dump {

namespace {

Error damaged(PhysAddr pa, u64 offset, const char* detail) {
  return Error{.why = Why::bad_file, .pa = pa, .offset = offset, .type = "kdump page", .detail = detail};
}

std::vector<PhysRange> clip(std::vector<PhysRange> ranges, PhysAddr first, PhysAddr last) {
  std::vector<PhysRange> out;
  for (const PhysRange& r : ranges) {
    const PhysAddr start = std::max(r.start, first), end = std::min(r.end(), last);
    if (start < end) out.push_back({start, end - start});
  }
  return out;
}

}  // namespace

KdumpSource::KdumpSource(LogicalFile file, const KdumpLayout& layout, PageBitmap stored, std::vector<u8> bits)
    : file_(std::move(file)), layout_(layout), bits_(std::move(bits)), stored_(std::move(stored)) {
  layout_.last_pfn = std::min(layout_.last_pfn, layout_.pages);
  layout_.first_pfn = std::min(layout_.first_pfn, layout_.last_pfn);
  before_ = stored_.rank(layout_.first_pfn);
  count_ = stored_.rank(layout_.last_pfn) - before_;
  ranges_ = clip(stored_.ranges(), Pfn{layout_.first_pfn}.address(), Pfn{layout_.last_pfn}.address());
}

auto KdumpSource::descriptor(u64 index) const -> std::optional<Descriptor> {
  std::array<u8, kDescriptorSize> room;
  const auto d = file_.read(layout_.descriptors + index * kDescriptorSize, room);
  if (!d) return std::nullopt;
  return Descriptor{d->at<u64>(0), d->at<u32>(8), d->at<u32>(12)};
}

Error KdumpSource::missing(PhysAddr pa) const {
  Error e{.why = Why::not_in_dump, .pa = pa};
  const u64 pfn = pa.value() >> kPageShift;
  if (pfn >= layout_.pages) return e;
  if (stored_.test(pfn)) {
    e.detail = "it is in another file of a dump that was split";
    return e;
  }
  // A page that the machine has and the file has not was left out on purpose (makedumpfile -d).
  std::array<u8, 1> room;
  const auto byte = file_.read(layout_.bitmap + pfn / 8, room);
  if (byte && (byte->at<u8>(0) >> (pfn % 8) & 1) != 0) e.detail = "it was left out when the dump was written";
  return e;
}

Result<Slice> KdumpSource::at(PhysAddr pa) const {
  const u64 pfn = pa.value() >> kPageShift;
  if (!has(pfn)) return fail(missing(pa));
  const auto d = descriptor(index_of(pfn));
  if (!d)
    return fail(Error{.why = Why::not_in_dump, .pa = pa, .detail = "the dump file is truncated before it"});
  if (d->size > kPageSize) return fail(damaged(pa, d->offset, "it claims to be larger than a page"));
  const auto codec = static_cast<PageCodec>(d->flags);
  if (name(codec) == "unknown codec")
    return fail(damaged(pa, d->offset, "it is compressed in an unknown way"));
  if (codec == PageCodec::raw && d->size != kPageSize)
    return fail(damaged(pa, d->offset, "it is not a page long"));

  if (codec == PageCodec::raw)
    if (const auto bytes = file_.in_place(d->offset, kPageSize))
      return Slice{bytes->data() + pa.page_offset(), pa.left_in_page(), {}};
  // Keyed by place, not by page: pages that share their data share it here too.
  bool there = true;
  const auto page = cache_.get(d->offset, [&](std::span<u8, kPageSize> out) {
    Page room;
    const auto packed = file_.read(d->offset, std::span(room).first(d->size));
    there = packed.has_value();
    return there && unpack_page(codec, *packed, out);
  });
  if (!there)
    return fail(Error{.why = Why::not_in_dump, .pa = pa, .detail = "the dump file is truncated before it"});
  if (!page) return fail(damaged(pa, d->offset, "its compressed data are damaged"));
  return Slice{page->data() + pa.page_offset(), pa.left_in_page(), page};
}

std::optional<u64> KdumpSource::file_offset(PhysAddr pa) const {
  const u64 pfn = pa.value() >> kPageShift;
  if (!has(pfn)) return std::nullopt;
  const auto d = descriptor(index_of(pfn));
  if (!d || d->flags != 0 || d->size != kPageSize || !file_.in_place(d->offset, kPageSize))
    return std::nullopt;
  return *file_.file_offset(d->offset) + pa.page_offset();
}

void KdumpSource::will_read(PhysRange range) const {
  if (range.size == 0 || count_ == 0) return;
  const u64 first = index_of(range.start.value() >> kPageShift);
  const u64 end = std::min(index_of((range.end().value() - 1) >> kPageShift) + 1, count_);
  if (first >= end) return;
  file_.will_read(layout_.descriptors + first * kDescriptorSize, (end - first) * kDescriptorSize);
  // Data follow in the order of the pages, except for the shared page of zeros.
  constexpr u64 kProbes = 64;
  u64 low = ~u64{0}, high = 0;
  for (u64 i = 0; i < kProbes; i++) {
    const auto d = descriptor(first + (end - first - 1) * i / (kProbes - 1));
    if (!d || d->flags == 0) continue;
    low = std::min(low, d->offset);
    high = std::max(high, d->offset + d->size);
  }
  if (low < high) file_.will_read(low, high - low);
}

std::vector<PhysRange> KdumpSource::populated() const {
  const u64 zeros = page_of_zeros();
  static constexpr Page kZeros{};
  Page room;
  const auto data = file_.read(zeros, room);
  if (!data || !std::equal(kZeros.begin(), kZeros.end(), data->data())) return ranges_;

  std::vector<PhysRange> out;
  u64 index = 0;
  for (const PhysRange& r : ranges_)
    for (PhysAddr pa = r.start; pa < r.end(); pa += kPageSize, index++) {
      const auto d = descriptor(index);
      if (!d) return out;  // truncated: nothing behind this can be read
      if (d->offset == zeros && d->flags == 0) continue;
      if (!out.empty() && out.back().end() == pa)
        out.back().size += kPageSize;
      else
        out.push_back({pa, kPageSize});
    }
  return out;
}

bool KdumpSource::complete(u64 index) const {
  const auto d = descriptor(index);
  if (!d) return false;
  return d->size == 0 || (file_.file_offset(d->offset) && file_.file_offset(d->offset + d->size - 1));
}

// Data are in the order of the pages but for those that share one place: all pages of zeros.
u64 KdumpSource::shared_offset() const {
  constexpr u64 kProbes = 1024;
  for (u64 i = 0; i < kProbes && count_ > 1; i++) {
    const u64 index = (count_ - 2) * i / (kProbes - 1);
    const auto one = descriptor(index), next = descriptor(index + 1);
    if (one && next && next->offset <= one->offset) return next->offset;
  }
  return page_of_zeros();
}

u64 KdumpSource::lost() const {
  const u64 zeros = shared_offset();
  const auto shared = [&](u64 index) {
    const auto d = descriptor(index);
    return d && d->offset == zeros;
  };
  // What is complete comes first. Pages of zeros, of which the upper half of a Windows may be full, say
  // nothing: their data come early. The last pages are looked at one by one, those before them by sample.
  constexpr u64 kMostLooked = 1 << 16, kProbes = 1024;
  u64 end = count_;
  while (end > 0 && count_ - end < kMostLooked && shared(end - 1)) end--;
  if (end > kProbes && shared(end - 1)) {
    u64 i = kProbes;
    while (i > 1 && shared(end * i / kProbes - 1)) i--;
    end = end * i / kProbes;
  }
  if (end == 0 || shared(end - 1) || complete(end - 1)) return 0;
  u64 low = 0, high = end - 1;  // high is incomplete, or all is shared up to one that is
  while (low < high) {
    const u64 middle = low + (high - low) / 2;
    u64 probe = middle;
    while (probe < high && shared(probe)) probe++;
    if (probe < high && complete(probe))
      low = probe + 1;
    else
      high = middle;
  }
  const u64 last = std::min(end, low + (u64{1} << 24));
  u64 missing = 0;
  for (; low < last; low++) missing += complete(low) ? 0 : 1;
  return missing;
}

}  // namespace unhang::dump
