// Walks of linked structures: each way to end, and that nothing which can be reached is lost.
#include "nt/walk.h"

#include <gtest/gtest.h>

#include <set>

#include "base/format.h"
#include "synth/memory.h"

namespace unhang::nt {
namespace {

constexpr VirtAddr kStart(0xfffffa80'00010000);

class WalkTest : public testing::Test {
 protected:
  // A list of `count` links, each on a page of its own so that any of them can be missing.
  explicit WalkTest(size_t count = 8) : space_(memory_.pages(), memory_.dtb(), {}) {
    memory_.map(kStart, (count + 1) * kPageSize);
    for (size_t i = 0; i < count; i++) links_.push_back(kStart + (i + 1) * kPageSize + 0x40 + i * 0x10);
    set(head_, links_.front(), links_.back());
    for (size_t i = 0; i < count; i++)
      set(links_[i], i + 1 < count ? links_[i + 1] : head_, i == 0 ? head_ : links_[i - 1]);
  }

  void set(VirtAddr at, VirtAddr flink, VirtAddr blink) {
    memory_.put(at, flink);
    memory_.put(at + 8, blink);
  }
  void set_flink(VirtAddr at, VirtAddr to) { memory_.put(at, to); }
  void set_blink(VirtAddr at, VirtAddr to) { memory_.put(at + 8, to); }
  void remove_page(VirtAddr at) { memory_.set_pte(at, 0); }
  // Some of the links, in order.
  std::vector<VirtAddr> some(std::initializer_list<size_t> which) const {
    std::vector<VirtAddr> out;
    for (const size_t i : which) out.push_back(links_[i]);
    return out;
  }

  synth::Memory memory_;
  memory::AddressSpace space_;
  const VirtAddr head_ = kStart + 0x100;
  std::vector<VirtAddr> links_;
};

TEST_F(WalkTest, Complete) {
  const Walk w = walk_list(space_, head_);
  EXPECT_TRUE(w.complete());
  EXPECT_EQ(w.links, links_);
  EXPECT_EQ(w.from_tail, 0u);
  EXPECT_EQ(w.how(), "complete");
}

TEST_F(WalkTest, EmptyAndNeverInitialised) {
  set(head_, head_, head_);
  EXPECT_TRUE(walk_list(space_, head_).complete());
  EXPECT_TRUE(walk_list(space_, head_).links.empty());
  set(head_, {}, {});
  EXPECT_TRUE(walk_list(space_, head_).complete());
  EXPECT_TRUE(walk_list(space_, head_).links.empty());
}

// Half a zero is no empty list.
TEST_F(WalkTest, HalfZeroHeadIsDamage) {
  set(head_, {}, links_.back());
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.end, WalkEnd::unreadable);
  EXPECT_EQ(w.links, links_) << "everything can be had from the tail";
  EXPECT_EQ(w.from_tail, 8u);
}

TEST_F(WalkTest, UnreadableHead) {
  remove_page(head_);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.end, WalkEnd::unreadable);
  EXPECT_EQ(w.at, head_);
  EXPECT_EQ(w.error.why, Why::not_present);
  EXPECT_TRUE(w.links.empty());
}

// One element's page is missing, whichever: the walk says where, and comes back from the tail.
TEST_F(WalkTest, AnyElementUnreadable) {
  for (size_t gone = 0; gone < links_.size(); gone++) {
    SCOPED_TRACE(gone);
    const u64 pte = memory_.pte(links_[gone]);
    remove_page(links_[gone]);
    const memory::AddressSpace fresh(memory_.pages(), memory_.dtb(), {});
    const Walk w = walk_list(fresh, head_);
    EXPECT_EQ(w.end, WalkEnd::unreadable);
    EXPECT_EQ(w.at, links_[gone]);
    EXPECT_EQ(w.error.why, Why::not_present);
    std::vector<VirtAddr> expected = links_;
    expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(gone));
    EXPECT_EQ(w.links, expected);
    EXPECT_EQ(w.from_tail, links_.size() - 1 - gone);
    EXPECT_NE(w.how().find("is not present"), std::string::npos) << w.how();
    memory_.set_pte(links_[gone], pte);
  }
}

TEST_F(WalkTest, TwoElementsUnreadable) {
  remove_page(links_[2]);
  remove_page(links_[5]);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.links, some({0, 1, 6, 7}));
  EXPECT_EQ(w.from_tail, 2u);
  EXPECT_EQ(w.at, links_[2]);
}

TEST_F(WalkTest, BrokenBackLink) {
  set_blink(links_[3], links_[6]);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.end, WalkEnd::broken_back_link);
  EXPECT_EQ(w.at, links_[3]);
  EXPECT_EQ(w.links, links_) << "the tail leads to the rest and to the element itself";
  EXPECT_EQ(w.from_tail, 5u);
  EXPECT_EQ(w.how(), fmt::format("the back link of {} does not match; 5 found from its end", links_[3]));
}

// Smear: an element was taken out on one side only.
TEST_F(WalkTest, ForwardLinkSkipsOne) {
  set_flink(links_[3], links_[5]);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.end, WalkEnd::broken_back_link);
  EXPECT_EQ(w.at, links_[5]);
  EXPECT_EQ(w.links, links_);
}

// The list is cut short: it looks whole but for the head's back link.
TEST_F(WalkTest, ForwardLinkBackToTheHead) {
  set_flink(links_[3], head_);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.end, WalkEnd::broken_back_link);
  EXPECT_EQ(w.at, head_);
  EXPECT_EQ(w.links, links_) << "the rest comes from the tail";
  EXPECT_EQ(w.from_tail, 4u);
}

TEST_F(WalkTest, CycleBesideTheHead) {
  set_flink(links_[4], links_[2]);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.end, WalkEnd::cycle);
  EXPECT_EQ(w.at, links_[2]);
  EXPECT_EQ(w.links, links_);
  EXPECT_EQ(w.from_tail, 3u);
}

TEST_F(WalkTest, ElementThatPointsToItself) {
  set(links_[4], links_[4], links_[3]);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.end, WalkEnd::cycle);
  EXPECT_EQ(w.at, links_[4]);
  EXPECT_EQ(w.links, links_);
}

TEST_F(WalkTest, CycleBackwardsEndsToo) {
  remove_page(links_[1]);
  set_blink(links_[5], links_[7]);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.links, some({0, 5, 6, 7}));
}

// Backwards the links must fit as well: a foreign element is not taken in.
TEST_F(WalkTest, TailOfAnotherListIsNotTaken) {
  remove_page(links_[1]);
  const VirtAddr foreign = kStart + 0x800;
  set(foreign, foreign + 0x20, foreign + 0x20);
  set_blink(links_[6], foreign);
  const Walk w = walk_list(space_, head_);
  EXPECT_EQ(w.links, some({0, 6, 7}));
}

TEST_F(WalkTest, Limit) {
  const Walk w = walk_list(space_, head_, 5);
  EXPECT_EQ(w.end, WalkEnd::limit);
  EXPECT_EQ(w.at, links_[5]);
  EXPECT_EQ(w.links, some({0, 1, 2, 3, 4}));
  EXPECT_EQ(w.how(), "gave up after 5 entries");
  EXPECT_TRUE(walk_list(space_, head_, 8).complete()) << "a limit that is just enough";
}

// Every link pointed anywhere: it ends, and no element comes twice.
TEST_F(WalkTest, AnyLinkAnywhere) {
  std::vector<VirtAddr> all = links_;
  all.push_back(head_);
  std::vector<VirtAddr> values = all;
  values.insert(values.end(), {VirtAddr(), VirtAddr(0x4141414141414141), kStart + 0x800, VirtAddr(~u64{7})});
  for (const VirtAddr at : all)
    for (const u64 side : {0, 8})
      for (const VirtAddr value : values) {
        const VirtAddr old = memory_.get<VirtAddr>(at + side);
        memory_.put(at + side, value);
        const Walk w = walk_list(space_, head_);
        std::set<VirtAddr> unique(w.links.begin(), w.links.end());
        EXPECT_EQ(unique.size(), w.links.size());
        EXPECT_FALSE(unique.contains(head_));
        EXPECT_LE(w.from_tail, w.links.size());
        EXPECT_EQ(w.complete(), value == old) << fmt::format("{} + {} -> {}", at, side, value);
        memory_.put(at + side, old);
      }
}

TEST_F(WalkTest, RingFromAnyElement) {
  for (size_t i = 0; i < links_.size(); i++) {
    const Walk w = walk_ring(space_, links_[i]);
    EXPECT_TRUE(w.complete());
    ASSERT_EQ(w.links.size(), 9u) << "the head is one of them";
    EXPECT_EQ(w.links.front(), links_[i]);
    EXPECT_EQ(std::count(w.links.begin(), w.links.end(), head_), 1);
  }
}

TEST_F(WalkTest, RingComesBackFromTheOtherSide) {
  remove_page(links_[4]);
  const Walk w = walk_ring(space_, links_[2]);
  EXPECT_EQ(w.end, WalkEnd::unreadable);
  EXPECT_EQ(w.at, links_[4]);
  std::vector<VirtAddr> expected = some({2, 3, 5, 6, 7});
  expected.push_back(head_);
  expected.insert(expected.end(), {links_[0], links_[1]});
  EXPECT_EQ(w.links, expected);
}

// ---- single lists ----

class ChainTest : public WalkTest {
 protected:
  // The same places as a chain: the next one's address at +0x18 of each.
  ChainTest() {
    for (size_t i = 0; i < links_.size(); i++) next(i, i + 1 < links_.size() ? links_[i + 1] : VirtAddr());
  }
  void next(size_t i, VirtAddr to) { memory_.put(links_[i] + kNext, to); }
  Walk walk(size_t limit = kMaxLinks) { return walk_chain_of(space_, links_[0], kNext, limit); }
  static constexpr u32 kNext = 0x18;
};

TEST_F(ChainTest, Complete) {
  EXPECT_TRUE(walk().complete());
  EXPECT_EQ(walk().links, links_);
  EXPECT_TRUE(walk_chain(space_, VirtAddr()).complete());
  EXPECT_TRUE(walk_chain(space_, VirtAddr()).links.empty());
}

TEST_F(ChainTest, ThroughItsFirstWord) {
  for (size_t i = 0; i < 3; i++) memory_.put(links_[i], i < 2 ? links_[i + 1] : VirtAddr());
  const Walk w = walk_chain(space_, links_[0]);
  EXPECT_TRUE(w.complete());
  EXPECT_EQ(w.links, some({0, 1, 2}));
}

TEST_F(ChainTest, Unreadable) {
  remove_page(links_[3]);
  const Walk w = walk();
  EXPECT_EQ(w.end, WalkEnd::unreadable);
  EXPECT_EQ(w.at, links_[3]);
  EXPECT_EQ(w.error.why, Why::not_present);
  EXPECT_EQ(w.links, some({0, 1, 2}));
}

TEST_F(ChainTest, Cycle) {
  next(5, links_[1]);
  const Walk w = walk();
  EXPECT_EQ(w.end, WalkEnd::cycle);
  EXPECT_EQ(w.at, links_[1]);
  EXPECT_EQ(w.links, some({0, 1, 2, 3, 4, 5}));
  next(0, links_[0]);
  EXPECT_EQ(walk().links, some({0}));
}

TEST_F(ChainTest, Limit) {
  EXPECT_EQ(walk(3).end, WalkEnd::limit);
  EXPECT_EQ(walk(3).links, some({0, 1, 2}));
  EXPECT_TRUE(walk(8).complete());
}

// ---- trees ----

class TreeTest : public WalkTest {
 protected:
  TreeTest() {
    // 0 over 1 and 2, 1 over 3 and 4, 2 over 5; 6 and 7 are no part of it.
    for (const VirtAddr l : links_) set(l, {}, {});
    set(links_[0], links_[1], links_[2]);
    set(links_[1], links_[3], links_[4]);
    set(links_[2], links_[5], {});
  }
  std::set<VirtAddr> nodes(const Walk& w) const { return {w.links.begin(), w.links.end()}; }
  std::set<VirtAddr> these(std::initializer_list<size_t> which) const {
    const auto v = some(which);
    return {v.begin(), v.end()};
  }
};

TEST_F(TreeTest, Complete) {
  const Walk w = walk_tree(space_, links_[0]);
  EXPECT_TRUE(w.complete());
  EXPECT_EQ(nodes(w), these({0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(w.links.size(), 6u);
  EXPECT_TRUE(walk_tree(space_, {}).complete());
}

TEST_F(TreeTest, AMissingNodeCostsWhatIsBelowIt) {
  remove_page(links_[1]);
  const Walk w = walk_tree(space_, links_[0]);
  EXPECT_EQ(w.end, WalkEnd::unreadable);
  EXPECT_EQ(w.at, links_[1]);
  EXPECT_EQ(nodes(w), these({0, 2, 5}));
}

TEST_F(TreeTest, Cycle) {
  set(links_[5], links_[0], {});
  const Walk w = walk_tree(space_, links_[0]);
  EXPECT_EQ(w.end, WalkEnd::cycle);
  EXPECT_EQ(w.at, links_[0]);
  EXPECT_EQ(nodes(w), these({0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(w.links.size(), 6u);
}

TEST_F(TreeTest, Limit) {
  EXPECT_EQ(walk_tree(space_, links_[0], 4).end, WalkEnd::limit);
  EXPECT_EQ(walk_tree(space_, links_[0], 4).links.size(), 4u);
  EXPECT_TRUE(walk_tree(space_, links_[0], 6).complete());
}

}  // namespace
}  // namespace unhang::nt
