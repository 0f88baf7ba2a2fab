// Memory into an output file: pages that are packed, cut in two, zeros, unreadable or lie in a file as they
// are.
#include "dump/writers/copy_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "dump/writers/writers.h"

namespace unhang::dump {
namespace {

constexpr u64 kPages = 6000;  // more than a thread takes at a time

// What the page must hold: every seventh is zeros, each other one differs.
std::vector<u8> page_of(u64 pfn) {
  std::vector<u8> page(kPageSize);
  if (pfn % 7 == 0) return page;
  for (size_t i = 0; i < page.size(); i++) page[i] = static_cast<u8>(pfn * 31 + i);
  return page;
}

// Pages without a place in a file, as a kdump's.
class Packed final : public PageSource<PhysAddr> {
 public:
  Packed(std::vector<PhysRange> ranges, u64 unreadable)
      : ranges_(std::move(ranges)), unreadable_(unreadable) {}
  Result<Slice> at(PhysAddr pa) const override {
    const u64 pfn = pa.value() >> kPageShift;
    if (pfn == unreadable_) return fail(Error{.why = Why::bad_file, .pa = pa});
    const auto page = std::make_shared<std::vector<u8>>(page_of(pfn));
    // Cut in two, as where the segments of a file meet inside of a page.
    const u64 left = pa.page_offset() < 100 ? 100 - pa.page_offset() : pa.left_in_page();
    return Slice{page->data() + pa.page_offset(), left, page};
  }
  std::span<const PhysRange> ranges() const override { return ranges_; }
  std::optional<u64> file_offset(PhysAddr) const override { return std::nullopt; }

 private:
  std::vector<PhysRange> ranges_;
  u64 unreadable_;
};

std::string path(const char* name) {
  return testing::TempDir() + "unhang-" + std::to_string(getpid()) + "-" + name;
}

// Pages of a raw file that are not what they must be.
u64 wrong_pages(const std::string& raw, std::span<const PhysRange> ranges, u64 unreadable) {
  const auto file = File::open(raw);
  if (!file) return ~u64{0};
  u64 wrong = 0;
  for (u64 pfn = 0; pfn < (*file)->size() >> kPageShift; pfn++) {
    const PhysAddr pa = Pfn{pfn}.address();
    const bool there = pfn != unreadable && std::ranges::any_of(ranges, [&](const PhysRange& r) {
                         return r.start <= pa && pa < r.end();
                       });
    const auto want = there ? page_of(pfn) : std::vector<u8>(kPageSize);
    wrong += std::equal(want.begin(), want.end(), (*file)->bytes().data() + (pfn << kPageShift)) ? 0 : 1;
  }
  return wrong;
}

TEST(CopyMemory, PackedPagesWithHolesAndOneThatCannotBeRead) {
  const std::vector<PhysRange> ranges{{Pfn{3}.address(), 2000 * kPageSize},
                                      {Pfn{2500}.address(), (kPages - 2500) * kPageSize}};
  const Packed source(ranges, 1234);
  const std::string out = path("packed.raw");
  const auto w = write_raw(out, source, ranges, {});
  ASSERT_TRUE(w) << text(w.error());
  EXPECT_EQ(w->pages, kPages - 500);
  EXPECT_EQ(w->copied.unreadable_pages, 1u);
  EXPECT_EQ(w->copied.first_unreadable, Pfn{1234}.address());
  EXPECT_EQ(wrong_pages(out, ranges, 1234), 0u);
  unlink(out.c_str());
}

TEST(CopyMemory, AFileWhosePagesLieUnalignedWithHoles) {
  constexpr u64 kOffset = 1936;
  const std::string in = path("unaligned.in"), out = path("unaligned.raw");
  {
    std::ofstream file(in, std::ios::binary);
    for (u64 pfn = 0; pfn < kPages; pfn++) {
      if (pfn % 7 == 0) continue;  // a hole
      const auto page = page_of(pfn);
      file.seekp(static_cast<std::streamoff>(kOffset + (pfn << kPageShift)));
      file.write(reinterpret_cast<const char*>(page.data()), static_cast<std::streamsize>(page.size()));
    }
  }
  const auto file = File::open(in);
  ASSERT_TRUE(file);
  // The second run lies before the first one in memory, and cuts a page in two.
  const MappedSource<PhysAddr> source(*file, {{Pfn{0}.address(), kPages / 2 * kPageSize + 50, kOffset},
                                              {Pfn{kPages / 2}.address() + 50, kPages / 2 * kPageSize - 50,
                                               kOffset + kPages / 2 * kPageSize + 50}});
  const auto ranges = whole_pages(source.ranges());
  const auto w = write_raw(out, source, ranges, {});
  ASSERT_TRUE(w) << text(w.error());
  EXPECT_EQ(w->copied.unreadable_pages, 0u);
  EXPECT_EQ(wrong_pages(out, ranges, ~u64{0}), 0u);
  unlink(in.c_str());
  unlink(out.c_str());
}

TEST(CopyMemory, ADumpThatBecameShorterIsAnErrorAndNoCrash) {
  const std::string in = path("shorter.in"), out = path("shorter.raw");
  std::ofstream(in, std::ios::binary) << std::string(64 * kPageSize, 'x');
  const auto file = File::open(in);
  ASSERT_TRUE(file);
  const MappedSource<PhysAddr> source(*file, {{PhysAddr(0), 64 * kPageSize, 0}});
  ASSERT_EQ(truncate(in.c_str(), 10 * kPageSize), 0);
  // Holes and what is no longer there look the same to SEEK_DATA: nothing is copied, or the end is noticed.
  const auto w = write_raw(out, source, source.ranges(), {});
  if (!w) {
    EXPECT_EQ(w.error().why, Why::bad_file);
  }
  unlink(in.c_str());
  unlink(out.c_str());
}

}  // namespace
}  // namespace unhang::dump
