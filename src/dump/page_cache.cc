#include "dump/page_cache.h"

#include <algorithm>

namespace unhang::dump {

PageCache::PageCache(size_t pages) : sets_(std::max<size_t>(1, pages / kWays)) {}

auto PageCache::set_of(u64 key) -> Set& {
  // Keys are file offsets: neighbours must not crowd into one set.
  return sets_[((key * 0x9E3779B97F4A7C15ULL) >> 20) % sets_.size()];
}

std::shared_ptr<const Page> PageCache::find(u64 key) {
  Set& set = set_of(key);
  const std::lock_guard guard(set.lock);
  for (Entry& e : set.entries)
    if (e.page && e.key == key) {
      e.used = ++set.clock;
      return e.page;
    }
  return nullptr;
}

std::shared_ptr<const Page> PageCache::put(u64 key, std::shared_ptr<const Page> page) {
  Set& set = set_of(key);
  const std::lock_guard guard(set.lock);
  Entry* oldest = &set.entries[0];
  for (Entry& e : set.entries) {
    if (e.page && e.key == key) return e.page;
    if (e.used < oldest->used) oldest = &e;
  }
  *oldest = {key, ++set.clock, page};
  return page;
}

}  // namespace unhang::dump
