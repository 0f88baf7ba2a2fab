#include "dump/pages.h"

#include <algorithm>

namespace unhang::dump {

namespace {

// Cuts overlaps away: for each run only the addresses that no earlier run has.
template <class Run>
std::vector<Run> disjoint(std::vector<Run> runs) {
  std::stable_sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.start < b.start; });
  std::vector<Run> out;
  for (Run run : runs) {
    if (run.size == 0) continue;
    if (!out.empty()) {
      const u64 end = out.back().start.value() + out.back().size;
      if (run.start.value() < end) {
        const u64 covered = end - run.start.value();
        if (covered >= run.size) continue;
        run.start += covered;
        run.offset += covered;
        run.size -= covered;
      }
    }
    out.push_back(run);
  }
  return out;
}

}  // namespace

template <class A>
MappedSource<A>::MappedSource(std::shared_ptr<const File> file, std::vector<Run> runs)
    : file_(std::move(file)) {
  for (Run& run : runs) {
    // A run that wraps around the address space or lies beyond the end of the file is a lie or a truncation.
    if (run.size > ~u64{0} - run.start.value()) run.size = 0;
    const u64 there = run.offset >= file_->size() ? 0 : std::min(run.size, file_->size() - run.offset);
    lost_ += run.size - there;
    run.size = there;
  }
  runs_ = disjoint(std::move(runs));
  for (const Run& run : runs_) {
    if (!ranges_.empty() && ranges_.back().end() == run.start)
      ranges_.back().size += run.size;
    else
      ranges_.push_back({run.start, run.size});
  }
}

template <class A>
auto MappedSource<A>::find(A address) const -> const Run* {
  auto it = std::upper_bound(runs_.begin(), runs_.end(), address,
                             [](A a, const Run& run) { return a < run.start; });
  if (it == runs_.begin()) return nullptr;
  --it;
  return address - it->start < it->size ? &*it : nullptr;
}

template <class A>
Result<Slice> MappedSource<A>::at(A address) const {
  const Run* run = find(address);
  if (run == nullptr) {
    Error e{.why = Why::not_in_dump};
    if constexpr (std::is_same_v<A, PhysAddr>)
      e.pa = address;
    else
      e.va = address;
    return fail(e);
  }
  const u64 into = address - run->start;
  const u64 size = std::min(run->size - into, address.left_in_page());
  return Slice{file_->bytes().data() + run->offset + into, size, {}};
}

template <class A>
std::optional<u64> MappedSource<A>::file_offset(A address) const {
  const Run* run = find(address);
  if (run == nullptr) return std::nullopt;
  return run->offset + (address - run->start);
}

template <class A>
u64 MappedSource<A>::contiguous(A address) const {
  const Run* run = find(address);
  return run == nullptr ? 0 : run->size - (address - run->start);
}

template <class A>
std::vector<Range<A>> MappedSource<A>::populated() const {
  std::vector<Range<A>> out;
  for (const Run& run : runs_)
    for (const Extent& e : file_->data_extents(run.offset, run.size)) {
      // Holes are cut in blocks of the file, which need not lie as the pages do: a page that is partly in a
      // hole belongs to the data.
      const A end = run.start + run.size;
      A first = A((run.start + (e.offset - run.offset)).page());
      A last = A((run.start + (e.offset - run.offset) + e.size + (kPageSize - 1)).page());
      first = std::max(first, run.start);
      last = std::min(last, end);
      if (!out.empty() && first <= out.back().end())
        out.back().size = std::max(last, out.back().end()) - out.back().start;
      else
        out.push_back({first, last - first});
    }
  return out;
}

template <class A>
void MappedSource<A>::will_read(Range<A> range) const {
  if (const auto offset = file_offset(range.start)) file_->will_read(*offset, range.size);
}

template class MappedSource<PhysAddr>;
template class MappedSource<VirtAddr>;

}  // namespace unhang::dump
