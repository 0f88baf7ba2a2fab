#include "dump/page_scan.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

namespace unhang::dump {

namespace {

constexpr u64 kChunk = u64{4} << 20;  // a worker takes this much at a time
constexpr size_t kMostPages = 1 << 22;

std::vector<PhysRange> chunks_of(const std::vector<PhysRange>& ranges) {
  std::vector<PhysRange> out;
  for (const PhysRange& r : ranges)
    for (u64 at = 0; at < r.size; at += kChunk) out.push_back({r.start + at, std::min(kChunk, r.size - at)});
  return out;
}

}  // namespace

PageScan scan_pages(const PageSource<PhysAddr>& physical, const ScanOptions& options,
                    const std::function<bool(const u8* page)>& wanted) {
  const auto begin = std::chrono::steady_clock::now();
  PageScan out;
  const std::vector<PhysRange> chunks = chunks_of(physical.populated());
  u64 populated = 0;
  for (const PhysRange& c : chunks) populated += c.size;
  for (const PhysRange& r : physical.ranges()) out.bytes_total += r.size;
  std::atomic<size_t> next{0};
  std::atomic<u64> scanned{0};
  std::mutex mutex;
  const auto work = [&] {
    std::vector<PhysAddr> mine;
    for (size_t i = next++; i < chunks.size(); i = next++) {
      if (std::chrono::steady_clock::now() - begin > options.budget) break;
      const PhysRange& c = chunks[i];
      u64 unread = 0;
      physical.will_read(c);
      for (PhysAddr at = PhysAddr((c.start.value() + kPageSize - 1) & ~(kPageSize - 1));
           at + kPageSize <= c.end(); at += kPageSize) {
        const auto slice = physical.at(at);
        if (!slice || slice->size != kPageSize)
          unread += kPageSize;
        else if (wanted(slice->data))
          mine.push_back(at);
      }
      scanned += c.size - unread;
    }
    const std::lock_guard lock(mutex);
    out.pages.insert(out.pages.end(), mine.begin(), mine.end());
  };
  const unsigned count =
      options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < count; i++) threads.emplace_back(work);
  work();
  for (std::thread& t : threads) t.join();
  std::sort(out.pages.begin(), out.pages.end());
  if (out.pages.size() > kMostPages) out.pages.resize(kMostPages);
  // What is known to be zeros without a look is done too: the same memory gives the same figures in each
  // form.
  out.bytes_scanned = out.bytes_total - (populated - scanned);
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return out;
}

}  // namespace unhang::dump
