// Where a format's bytes are: physical pages (most dumps) or blocks of kernel virtual memory (triage dumps).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/source.h"
#include "base/types.h"

namespace unhang::dump {

template <class A>
struct Range {
  A start{};
  u64 size = 0;
  A end() const { return start + size; }
  friend bool operator==(const Range&, const Range&) = default;
};
using PhysRange = Range<PhysAddr>;
using VirtRange = Range<VirtAddr>;

// What a dump holds, by address. Thread-safe. Errors of at(): not_in_dump, bad_file (a damaged page).
template <class A>
class PageSource : public Source<A> {
 public:
  // What the source holds: sorted, disjoint.
  virtual std::span<const Range<A>> ranges() const = 0;
  // Where an address lies in the file, for --why; nothing when it lies in no one place.
  virtual std::optional<u64> file_offset(A address) const = 0;
  // The file that file_offset() counts in, and how many bytes from an address on lie one behind the other
  // there: so that they can be copied without being looked at. Null and 0 for pages that are packed.
  virtual const File* backing() const { return nullptr; }
  virtual u64 contiguous(A) const { return 0; }
  // A hint that a range is about to be read from its start to its end.
  virtual void will_read(Range<A>) const {}
  // ranges() without the holes of a sparse file: what a scan of everything has to read.
  virtual std::vector<Range<A>> populated() const {
    auto r = ranges();
    return {r.begin(), r.end()};
  }
};

// A source whose bytes lie as they are in a mapped file: ELF cores, raw memory, crash dumps.
template <class A>
class MappedSource final : public PageSource<A> {
 public:
  struct Run {
    A start{};
    u64 size = 0;
    u64 offset = 0;  // in the file
  };
  // Runs may come in any order and overlap (QEMU's paging=on writes a page once per mapping): the first
  // mention of an address wins. Parts beyond the end of the file are cut; `lost` tells how many bytes.
  MappedSource(std::shared_ptr<const File> file, std::vector<Run> runs);

  Result<Slice> at(A address) const override;
  std::span<const Range<A>> ranges() const override { return ranges_; }
  std::optional<u64> file_offset(A address) const override;
  const File* backing() const override { return file_.get(); }
  u64 contiguous(A address) const override;
  std::vector<Range<A>> populated() const override;
  void will_read(Range<A> range) const override;
  u64 lost() const { return lost_; }

 private:
  const Run* find(A address) const;
  std::shared_ptr<const File> file_;
  std::vector<Run> runs_;         // sorted, disjoint
  std::vector<Range<A>> ranges_;  // the same, joined where they touch
  u64 lost_ = 0;
};

extern template class MappedSource<PhysAddr>;
extern template class MappedSource<VirtAddr>;

}  // namespace unhang::dump
