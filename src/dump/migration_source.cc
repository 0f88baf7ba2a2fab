#include "dump/migration_source.h"

#include <algorithm>

#include "dump/overlay.h"
#include "dump/page_cache.h"

namespace unhang::dump {

namespace {

constexpr Page kZeros{};

void append(std::vector<PhysRange>& ranges, u64 page, u64 size) {
  const PhysAddr start = Pfn{page}.address();
  if (!ranges.empty() && ranges.back().end() == start)
    ranges.back().size += size << kPageShift;
  else
    ranges.push_back({start, size << kPageShift});
}

}  // namespace

MigrationSource::MigrationSource(std::shared_ptr<const MigrationStream> stream, GuestMap map)
    : stream_(std::move(stream)), map_(std::move(map)) {
  for (const MapPiece& piece : map_) list(piece, true, ranges_);
}

std::vector<PhysRange> MigrationSource::populated() const {
  std::vector<PhysRange> out;
  for (const MapPiece& piece : map_) list(piece, false, out);
  return out;
}

// What of a piece was sent, with or without the pages that are zeros.
void MigrationSource::list(const MapPiece& piece, bool with_zeros, std::vector<PhysRange>& out) const {
  const auto add = [&](u64 first, u64 end) {
    first = std::max(first, piece.page);
    end = std::min(end, piece.page + piece.size);
    if (first < end) append(out, piece.start + (first - piece.page), end - first);
  };
  const RamBlock* block = piece_at(stream_->blocks, piece.page);
  if (block != nullptr && block->mapped) {
    if (with_zeros) return add(piece.page, piece.page + piece.size);
    for (const PhysRange& r : block->present.ranges())
      add(block->start + (r.start.value() >> kPageShift), block->start + (r.end().value() >> kPageShift));
    return;
  }
  const auto& runs = stream_->runs;
  auto run =
      std::ranges::upper_bound(runs, piece.page, {}, [](const PageRun& r) { return r.start + r.size; });
  for (; run != runs.end() && run->start < piece.page + piece.size; ++run)
    if (with_zeros || run->offset != 0) add(run->start, run->start + run->size);
}

auto MigrationSource::find(PhysAddr pa) const -> Place {
  const u64 pfn = pa.value() >> kPageShift;
  const MapPiece* piece = piece_at(map_, pfn);
  if (piece == nullptr) return {};
  const u64 page = piece->page + (pfn - piece->start);
  const RamBlock* block = piece_at(stream_->blocks, page);
  if (block != nullptr && block->mapped) {
    const u64 index = page - block->start;
    return {true, block->present.test(index) ? block->pages_offset + (index << kPageShift) : 0};
  }
  const PageRun* run = piece_at(stream_->runs, page);
  if (run == nullptr) return {};
  return {true, run->offset == 0 ? 0 : run->offset + (page - run->start) * PageRun::kStride};
}

Result<Slice> MigrationSource::at(PhysAddr pa) const {
  const Place place = find(pa);
  if (!place.there) return fail(Error{.why = Why::not_in_dump, .pa = pa});
  if (place.offset == 0) return Slice{kZeros.data() + pa.page_offset(), pa.left_in_page(), {}};
  const ByteView page = stream_->file->bytes().from(place.offset);
  if (page.size() <= pa.page_offset())
    return fail(Error{.why = Why::not_in_dump, .pa = pa, .detail = "the dump file is truncated before it"});
  return Slice{
      page.data() + pa.page_offset(), std::min<u64>(page.size() - pa.page_offset(), pa.left_in_page()), {}};
}

std::optional<u64> MigrationSource::file_offset(PhysAddr pa) const {
  const Place place = find(pa);
  if (!place.there || place.offset == 0) return std::nullopt;
  return place.offset + pa.page_offset();
}

// A page in a stream, behind which the next one's header lies; pages next to each other in a mapped-ram file.
u64 MigrationSource::contiguous(PhysAddr pa) const {
  constexpr u64 kMostPages = 4096;
  const auto first = file_offset(pa);
  if (!first) return 0;
  u64 size = pa.left_in_page();
  for (u64 pages = 1; pages < kMostPages && file_offset(pa + size) == *first + size; pages++)
    size += kPageSize;
  return std::min(size, stream_->file->size() - std::min(*first, stream_->file->size()));
}

void MigrationSource::will_read(PhysRange range) const {
  const auto first = file_offset(range.start), last = file_offset(range.start + range.size - 1);
  // A page that was sent again lies far behind its neighbours; then the hint would cover half of the file.
  if (first && last && *last > *first && *last - *first <= 2 * range.size)
    stream_->file->will_read(*first, *last - *first + 1);
}

}  // namespace unhang::dump
