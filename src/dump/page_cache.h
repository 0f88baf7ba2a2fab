// Unpacked pages, kept for a while. Bounded, thread-safe: several threads scan one dump at once.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <vector>

#include "base/bytes.h"

namespace unhang::dump {

using Page = std::array<u8, kPageSize>;

// Memory for pages, taken from the system two megabytes at a time and used again. malloc would give the
// memory of each thread back and fault it in again page by page, which took two threads longer than one
// alone.
class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  static std::shared_ptr<PagePool> create() { return std::shared_ptr<PagePool>(new PagePool); }
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();

  // A page of unknown content. It comes back to the pool by itself, and keeps the pool alive until then.
  std::shared_ptr<Page> take();

 private:
  struct Room {
    u8* begin = nullptr;
    u8* end = nullptr;
  };

  PagePool() = default;
  Room new_slab();

  std::mutex lock_;
  std::vector<Page*> free_;
  // What no thread has touched yet, of one slab for each processor (modulo their number): two that fault in
  // the same large page clear it twice, and one of the two is thrown away.
  std::array<Room, 8> fresh_;
  std::vector<void*> slabs_;
};

// Set-associative, as a CPU's cache: a key belongs to one small set with its own lock, and the least recently
// used page of the set makes room. A page that somebody still holds stays alive with its holder.
class PageCache {
 public:
  static constexpr size_t kDefaultPages = 16384;  // 64 MiB
  explicit PageCache(size_t pages = kDefaultPages);

  // The page of a key; load(std::span<u8, kPageSize>) -> bool makes it when it is not here (no lock is held
  // meanwhile: two threads may make the same page, one of them wins). Null when load fails.
  template <class Load>
  std::shared_ptr<const Page> get(u64 key, Load&& load) {
    if (auto page = find(key)) return page;
    auto page = pool_->take();
    if (!load(std::span<u8, kPageSize>(*page))) return nullptr;
    return put(key, std::move(page));
  }

 private:
  static constexpr size_t kWays = 8;
  struct Entry {
    u64 key = 0;
    u64 used = 0;
    std::shared_ptr<const Page> page;
  };
  struct Set {
    std::mutex lock;
    u64 clock = 0;
    std::array<Entry, kWays> entries;
  };

  Set& set_of(u64 key);
  std::shared_ptr<const Page> find(u64 key);
  std::shared_ptr<const Page> put(u64 key, std::shared_ptr<const Page> page);

  std::vector<Set> sets_;
  std::shared_ptr<PagePool> pool_ = PagePool::create();
};

}  // namespace unhang::dump
