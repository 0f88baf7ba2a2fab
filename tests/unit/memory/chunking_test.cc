// Standing property (DESIGN section 8): any split of a read gives the same bytes.
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/format.h"
#include "memory/address_space.h"
#include "memory/read.h"
#include "synth/memory.h"

namespace unhang::memory {
namespace {

constexpr VirtAddr kStart(0xfffff880'00010000);
constexpr u64 kPages = 24;
constexpr u64 kSize = kPages * kPageSize;

// Lends out bytes in pieces of odd sizes, as a file that ends inside a page does.
class Crumbs final : public Source<VirtAddr> {
 public:
  explicit Crumbs(const Source<VirtAddr>& inner) : inner_(inner) {}
  Result<Slice> at(VirtAddr va) const override {
    auto slice = inner_.at(va);
    if (slice) slice->size = std::min<size_t>(slice->size, 1 + va.value() % 37);
    return slice;
  }

 private:
  const Source<VirtAddr>& inner_;
};

class ChunkingTest : public testing::Test {
 protected:
  ChunkingTest() : bytes_(kSize), there_(kSize, true) {
    std::mt19937 random(7);
    for (u8& b : bytes_) b = static_cast<u8>(random());
    memory_.map(kStart, kSize);
    memory_.write(kStart, bytes_.data(), kSize);
    // Holes: one page, two together of different kinds, the last page.
    hole(5, 0);
    hole(11, 0);
    hole(12, 0x00123456'00000080);
    remove(17);
    hole(kPages - 1, 0);
    space_.emplace(memory_.pages(), memory_.dtb(), PagingRules{});
  }

  void hole(u64 page, u64 pte) {
    memory_.set_pte(kStart + page * kPageSize, pte);
    gone(page);
  }
  void remove(u64 page) {
    memory_.pages().remove(
        Pfn{(memory_.pte(kStart + page * kPageSize) & 0x000f'ffff'ffff'f000) >> kPageShift});
    gone(page);
  }
  void gone(u64 page) {
    for (u64 i = 0; i < kPageSize; i++) {
      there_[page * kPageSize + i] = false;
      bytes_[page * kPageSize + i] = 0;
    }
  }
  // How many bytes there are from an offset up to the first that is missing.
  u64 run(u64 offset, u64 size) const {
    u64 n = 0;
    while (n < size && offset + n < kSize && there_[offset + n]) n++;
    return n;
  }

  void check(const Source<VirtAddr>& source, u64 offset, u64 size) {
    SCOPED_TRACE(fmt::format("offset {:#x} size {:#x}", offset, size));
    const VirtAddr va = kStart + offset;
    const u64 run = this->run(offset, size);
    std::vector<u8> out(size, 0xee);
    const Some some = read_some(source, va, std::span<u8>(out));
    ASSERT_EQ(some.size, run);
    ASSERT_TRUE(std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(run),
                           bytes_.begin() + static_cast<std::ptrdiff_t>(offset)));
    for (u64 i = run; i < size; i++) ASSERT_EQ(out[i], 0xee) << "written behind what there is";
    const auto exact = read_exact(source, va, std::span<u8>(out));
    ASSERT_EQ(exact.has_value(), run == size);
    if (!exact) {
      EXPECT_EQ(exact.error().va, va + run) << "the error is not that of the first missing byte";
      EXPECT_EQ(exact.error().why, some.error.why);
    }
    check_sparse(read_sparse(source, va, size), offset, size);
  }

  void check_sparse(const Sparse& sparse, u64 offset, u64 size) {
    ASSERT_EQ(sparse.bytes.size(), size);
    std::vector<bool> real(size, true);
    u64 before = 0;
    for (const Hole& h : sparse.holes) {
      ASSERT_GE(h.offset, before);
      ASSERT_LE(h.offset + h.size, size);
      ASSERT_GT(h.size, 0u);
      before = h.offset + h.size;
      for (u64 i = 0; i < h.size; i++) real[h.offset + i] = false;
    }
    for (u64 i = 0; i < size; i++) {
      ASSERT_EQ(real[i], offset + i < kSize && there_[offset + i]) << i;
      ASSERT_EQ(sparse.bytes[i], real[i] ? bytes_[offset + i] : 0) << i;
      ASSERT_EQ(sparse.has(i, 1), real[i]) << i;
    }
    EXPECT_EQ(sparse.has(0, size), sparse.holes.empty());
    EXPECT_FALSE(sparse.has(size, 1));
    EXPECT_FALSE(sparse.has(1, std::numeric_limits<u64>::max()));
  }

  synth::Memory memory_;
  std::vector<u8> bytes_;
  std::vector<bool> there_;
  std::optional<AddressSpace> space_;
};

TEST_F(ChunkingTest, AnyStartAnySizeAnyPieces) {
  const Crumbs crumbs(*space_);
  std::mt19937 random(42);
  for (int i = 0; i < 300; i++) {
    const u64 offset = random() % kSize, size = random() % (6 * kPageSize);
    check(*space_, offset, size);
    if (i % 4 == 0) check(crumbs, offset, size);
  }
}

TEST_F(ChunkingTest, EveryEdge) {
  for (const u64 page : {u64{1}, u64{5}, u64{6}, u64{11}, u64{12}, u64{13}, u64{17}, kPages - 1, kPages})
    for (const u64 before : {0, 1, 7, 8, 4095, 4096})
      for (const u64 size :
           {u64{0}, u64{1}, u64{8}, u64{9}, kPageSize - 1, kPageSize, kPageSize + 1, 2 * kPageSize})
        check(*space_, page * kPageSize - before, size);
}

// A read in two parts, cut anywhere, is the read.
TEST_F(ChunkingTest, AnyCut) {
  std::vector<u8> whole(4 * kPageSize), parts(whole.size());
  ASSERT_TRUE(read_exact(*space_, kStart, std::span<u8>(whole)));
  for (u64 cut = 0; cut <= whole.size(); cut += 13) {
    std::fill(parts.begin(), parts.end(), u8{0});
    ASSERT_TRUE(read_exact(*space_, kStart, std::span<u8>(parts).first(cut)));
    ASSERT_TRUE(read_exact(*space_, kStart + cut, std::span<u8>(parts).subspan(cut)));
    ASSERT_EQ(parts, whole) << cut;
  }
}

// Holes of different kinds side by side stay apart: "paged out" and "not present" are different facts.
TEST_F(ChunkingTest, HolesSayWhy) {
  const Sparse s = read_sparse(*space_, kStart, kSize);
  ASSERT_EQ(s.holes.size(), 5u);
  EXPECT_EQ(s.holes[0].error.why, Why::not_present);
  EXPECT_EQ(s.holes[1].offset, 11 * kPageSize);
  EXPECT_EQ(s.holes[1].error.why, Why::not_present);
  EXPECT_EQ(s.holes[2].offset, 12 * kPageSize);
  EXPECT_EQ(s.holes[2].error.why, Why::paged_out);
  EXPECT_EQ(s.holes[3].error.why, Why::not_in_dump);
}

// Nothing wraps: the bytes behind the last address of all do not exist.
TEST_F(ChunkingTest, TopOfMemory) {
  const VirtAddr last_page(~u64{0} & ~(kPageSize - 1));
  memory_.map_page(last_page, memory_.new_page());
  std::vector<u8> out(0x20);
  const VirtAddr near_top(~u64{0} - 0xf);
  EXPECT_EQ(read_some(*space_, near_top, std::span<u8>(out)).size, 0x10u);
  EXPECT_FALSE(read_exact(*space_, near_top, std::span<u8>(out)));
  EXPECT_TRUE(read_exact(*space_, near_top, std::span<u8>(out).first(0x10)));
  const Sparse s = read_sparse(*space_, near_top, 0x20);
  ASSERT_EQ(s.holes.size(), 1u);
  EXPECT_EQ(s.holes[0].offset, 0x10u);
  EXPECT_EQ(s.holes[0].size, 0x10u);
  EXPECT_EQ(s.holes[0].error.why, Why::bad_address);
}

TEST_F(ChunkingTest, CStrings) {
  const char text[] = "a name that crosses a page";
  const VirtAddr at = kStart + 2 * kPageSize - 5;
  memory_.write(at, text, sizeof text);
  const Crumbs crumbs(*space_);
  EXPECT_EQ(read_c_string(*space_, at, 100), text);
  EXPECT_EQ(read_c_string(crumbs, at, 100), text);
  EXPECT_EQ(read_c_string(*space_, at, 9), "a name th");
  EXPECT_EQ(read_c_string(*space_, at, 5), "a nam");
}

TEST_F(ChunkingTest, CStringStopsAtAHole) {
  memory_.write(kStart + 5 * kPageSize - 3, "abc", 3);
  EXPECT_EQ(read_c_string(*space_, kStart + 5 * kPageSize - 3, 100), "abc");
  EXPECT_EQ(read_c_string(*space_, kStart + 5 * kPageSize, 100), "");
}

}  // namespace
}  // namespace unhang::memory
