#include "dump/writers/copy_memory.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <thread>
#include <utility>

namespace unhang::dump {

namespace {

constexpr u64 kUnit = u64{8} << 20;    // bytes that one thread takes at a time
constexpr u64 kRoom = u64{256} << 10;  // bytes that it reads or writes with one call
// From here on a stretch of the file is copied by itself. A migration stream has a header before each page,
// and two calls for each page take thrice as long as the copy.
constexpr u64 kLongRun = u64{64} << 10;

bool all_zero(const u8* p, size_t n) {
  return n == 0 || (p[0] == 0 && std::equal(p, p + n - 1, p + 1));
}

// Pages out of a file, in the order of a stream: read in large pieces while they follow each other. Not from
// the mapping, where each would count as this process's memory.
class PageReader {
 public:
  explicit PageReader(const File& file) : file_(file), room_(kRoom) {}

  bool read(u64 offset, u8* page) {
    if (offset < at_ || offset + kPageSize > at_ + size_) {
      const bool follows = offset >= at_ && offset <= at_ + size_ + kPageSize;
      if (!fill(offset, follows ? room_.size() : kPageSize)) return false;
    }
    std::copy_n(room_.data() + (offset - at_), kPageSize, page);
    return true;
  }

 private:
  bool fill(u64 offset, u64 most) {
    at_ = offset;
    size_ = 0;
    while (size_ < most) {
      const ssize_t n =
          pread(file_.descriptor(), room_.data() + size_, most - size_, static_cast<off_t>(offset + size_));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      size_ += static_cast<u64>(n);
    }
    return size_ >= kPageSize;
  }

  const File& file_;
  std::vector<u8> room_;
  u64 at_ = 0, size_ = 0;
};

class Copier {
 public:
  Copier(const PageSource<PhysAddr>& source, const OutputFile& out, const Progress& progress)
      : source_(source), out_(out), progress_(progress) {}

  Result<Copied> run(std::span<const Placed> placed) {
    std::vector<Placed> units;
    for (const Placed& p : placed)
      for (u64 at = 0; at < p.range.size; at += kUnit) {
        const u64 size = std::min(kUnit, p.range.size - at);
        units.push_back({{p.range.start + at, size}, p.offset + at});
        total_ += size;
      }
    std::atomic<size_t> next = 0;
    auto work = [&] {
      Batch batch;
      batch.room.resize(std::min(kRoom, total_));
      if (source_.backing() != nullptr && source_.backing()->descriptor() >= 0)
        batch.reader.emplace(*source_.backing());
      for (size_t i = next++; i < units.size() && !stop_; i = next++)
        if (const auto done = copy(units[i], batch); !done) give_up(done.error());
    };
    {
      std::vector<std::jthread> pool;
      // Bytes that lie in a file as they are only wait for each other at the output's lock.
      const size_t most =
          source_.backing() != nullptr ? 1 : std::max(1U, std::thread::hardware_concurrency());
      const size_t threads = std::min(most, units.size());
      for (size_t t = 1; t < threads; t++) pool.emplace_back(work);
      work();
    }
    if (stop_) return fail(error_);
    copied_.bytes = total_;
    return copied_;
  }

 private:
  void give_up(const Error& e) {
    const std::lock_guard guard(lock_);
    if (!stop_) error_ = e;
    stop_ = true;
  }

  // Pages that follow each other in the output and go there with one call.
  struct Batch {
    std::vector<u8> room;
    u64 offset = 0;  // of the first one
    u64 size = 0;
    std::optional<PageReader> reader;  // when the pages lie in a file as they are
  };

  Result<void> copy(const Placed& unit, Batch& batch) {
    u64 at = 0;
    while (at < unit.range.size) {
      const PhysAddr pa = unit.range.start + at;
      const u64 run = std::min(source_.contiguous(pa), unit.range.size - at);
      if (run >= kLongRun || (run >= kPageSize && run == unit.range.size - at)) {
        TRY_VOID(flush(batch));
        TRY_VOID(out_.copy(*source_.backing(), *source_.file_offset(pa), unit.offset + at, run, batch.room));
        at += run;
        continue;
      }
      TRY_VOID(copy_page(pa, unit.offset + at, batch));
      at += kPageSize;
    }
    TRY_VOID(flush(batch));
    return report(unit.range.size);
  }

  // Pages that are packed, or cut in two by the file's segments.
  Result<void> copy_page(PhysAddr pa, u64 offset, Batch& batch) {
    if (batch.size != 0 && (batch.offset + batch.size != offset || batch.size == batch.room.size()))
      TRY_VOID(flush(batch));
    if (batch.size == 0) batch.offset = offset;
    u8* page = batch.room.data() + batch.size;
    const auto offset_in = batch.reader ? source_.file_offset(pa) : std::nullopt;
    const bool read =
        offset_in && source_.contiguous(pa) >= kPageSize && batch.reader->read(*offset_in, page);
    for (u64 have = read ? kPageSize : 0; have < kPageSize;) {
      const auto slice = source_.at(pa + have);
      if (!slice) {
        const std::lock_guard guard(lock_);
        if (copied_.unreadable_pages++ == 0) copied_.first_unreadable = pa;
        return {};
      }
      std::copy_n(slice->data, slice->size, page + have);
      have += slice->size;
    }
    if (!all_zero(page, kPageSize)) batch.size += kPageSize;  // else a hole
    return {};
  }

  Result<void> flush(Batch& batch) {
    const u64 size = std::exchange(batch.size, 0);
    return out_.write(batch.offset, std::span(batch.room).first(size));
  }

  Result<void> report(u64 bytes) {
    const std::lock_guard guard(lock_);
    done_ += bytes;
    if (progress_ && !progress_({.what = "writing", .done = done_, .total = total_}))
      return fail(Error{.why = Why::limit, .detail = "stopped"});
    return {};
  }

  const PageSource<PhysAddr>& source_;
  const OutputFile& out_;
  const Progress& progress_;
  std::mutex lock_;
  std::atomic<bool> stop_ = false;
  Error error_{};
  u64 done_ = 0, total_ = 0;
  Copied copied_;
};

}  // namespace

Result<Copied> copy_memory(const PageSource<PhysAddr>& source, std::span<const Placed> placed,
                           std::span<const Patch> patches, const OutputFile& out, const Progress& progress) {
  Copied copied = TRY(Copier(source, out, progress).run(placed));
  for (const Patch& patch : patches) {
    const auto to = std::find_if(placed.begin(), placed.end(), [&](const Placed& p) {
      return patch.at >= p.range.start && patch.at + patch.bytes.size() <= p.range.end();
    });
    if (to == placed.end()) {
      copied.lost_patches++;
      continue;
    }
    TRY_VOID(out.write(to->offset + (patch.at - to->range.start), patch.bytes));
  }
  return copied;
}

std::vector<PhysRange> whole_pages(std::span<const PhysRange> ranges) {
  std::vector<PhysRange> out;
  for (const PhysRange& r : ranges) {
    const PhysAddr first((r.start + (kPageSize - 1)).page()), last(r.end().page());
    if (first < last) out.push_back({first, last - first});
  }
  return out;
}

std::vector<PhysRange> intersection(std::span<const PhysRange> a, std::span<const PhysRange> b) {
  std::vector<PhysRange> out;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const PhysAddr first = std::max(a[i].start, b[j].start), last = std::min(a[i].end(), b[j].end());
    if (first < last) out.push_back({first, last - first});
    if (a[i].end() < b[j].end())
      i++;
    else
      j++;
  }
  return out;
}

}  // namespace unhang::dump
