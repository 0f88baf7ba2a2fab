#include "dump/page_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <thread>

namespace unhang::dump {
namespace {

bool all(const Page& page, u8 value) {
  return std::ranges::all_of(page, [&](u8 b) { return b == value; });
}

auto filled(u64 key) {
  return [key](std::span<u8, kPageSize> out) {
    std::ranges::fill(out, static_cast<u8>(key));
    return true;
  };
}

TEST(PageCache, APageThatIsHeldOutlivesItsPlaceAndTheCache) {
  std::optional<PageCache> cache(64);
  const auto held = cache->get(7, filled(7));
  for (u64 key = 100; key < 5000; key++)
    ASSERT_TRUE(all(*cache->get(key * 4096, filled(key)), static_cast<u8>(key)));
  EXPECT_TRUE(all(*held, 7));
  cache.reset();
  EXPECT_TRUE(all(*held, 7));
}

TEST(PageCache, AFailureIsNotKept) {
  PageCache cache(64);
  EXPECT_EQ(cache.get(1, [](std::span<u8, kPageSize>) { return false; }), nullptr);
  const auto page = cache.get(1, filled(1));
  ASSERT_NE(page, nullptr);
  EXPECT_TRUE(all(*page, 1));
}

TEST(PagePool, PagesAreUsedAgainAndNeverTwiceAtOnce) {
  const auto pool = PagePool::create();
  std::vector<std::shared_ptr<Page>> pages;
  for (int i = 0; i < 2000; i++) pages.push_back(pool->take());
  std::vector<const Page*> places;
  for (const auto& p : pages) places.push_back(p.get());
  std::ranges::sort(places);
  EXPECT_EQ(std::ranges::adjacent_find(places), places.end());
  pages.clear();
  for (int i = 0; i < 2000; i++) {
    pages.push_back(pool->take());
    EXPECT_TRUE(std::ranges::binary_search(places, pages.back().get()));
  }
}

TEST(PageCache, ManyThreadsGetWhatTheyAskFor) {
  PageCache cache(256);
  std::vector<std::jthread> threads;
  for (u64 t = 0; t < 4; t++)
    threads.emplace_back([&cache, t] {
      for (u64 i = 0; i < 20000; i++) {
        const u64 key = (i * 17 + t * 5) % 1000;
        EXPECT_TRUE(all(*cache.get(key * 4096, filled(key)), static_cast<u8>(key)));
      }
    });
}

}  // namespace
}  // namespace unhang::dump
