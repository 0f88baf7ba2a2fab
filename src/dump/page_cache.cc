#include "dump/page_cache.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace unhang::dump {

namespace {
constexpr size_t kSlab = size_t{2} << 20;
}  // namespace

PagePool::~PagePool() {
  for (void* slab : slabs_) munmap(slab, kSlab);
}

auto PagePool::new_slab() -> Room {
  // Aligned, so that the kernel can give it as one large page: map twice as much, cut both ends off.
  slabs_.reserve(slabs_.size() + 1);
  free_.reserve((slabs_.size() + 1) * (kSlab / kPageSize));
  void* room = mmap(nullptr, 2 * kSlab, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) throw std::bad_alloc();
  u8* const begin = static_cast<u8*>(room);
  const size_t before = (kSlab - reinterpret_cast<uintptr_t>(begin) % kSlab) % kSlab;
  u8* const slab = begin + before;
  if (before != 0) munmap(begin, before);
  munmap(slab + kSlab, kSlab - before);
  madvise(slab, kSlab, MADV_HUGEPAGE);
  slabs_.push_back(slab);
  return {slab, slab + kSlab};
}

std::shared_ptr<Page> PagePool::take() {
  Page* page = nullptr;
  {
    const std::lock_guard guard(lock_);
    if (!free_.empty()) {
      page = free_.back();
      free_.pop_back();
    } else {
      Room& room = fresh_[static_cast<unsigned>(sched_getcpu()) % fresh_.size()];
      if (room.begin == room.end) room = new_slab();
      page = new (room.begin) Page;  // no bytes are touched
      room.begin += kPageSize;
    }
  }
  return {page, [pool = shared_from_this()](Page* p) {
            const std::lock_guard guard(pool->lock_);
            pool->free_.push_back(p);  // room was reserved
          }};
}

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
