// Unpacked pages, kept for a while. Bounded, thread-safe: several threads scan one dump at once.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <vector>

#include "base/bytes.h"

namespace unhang::dump {

using Page = std::array<u8, kPageSize>;

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
    auto page = std::make_shared<Page>();
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
};

}  // namespace unhang::dump
