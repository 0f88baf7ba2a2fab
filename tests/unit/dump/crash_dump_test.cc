// Crash dumps made by hand: the forms that nobody's writer makes here, and headers that lie.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/format.h"
#include "capture.h"
#include "dump/dump_file.h"

namespace unhang {
namespace {

class Bytes {
 public:
  explicit Bytes(u32 type, size_t size = 0x2000) : bytes_(size) {
    std::memcpy(bytes_.data(), "PAGEDU64", 8);
    put<u32>(0x30, 0x8664);
    put<u32>(0x34, 1);
    put<u32>(0xF98, type);
  }
  template <class T>
  Bytes& put(size_t at, T value) {
    if (bytes_.size() < at + sizeof value) bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
    return *this;
  }
  Bytes& text(size_t at, const char* words) {
    for (size_t i = 0; i < std::strlen(words); i++) put<char>(at + i, words[i]);
    return *this;
  }
  // A page full of one byte.
  Bytes& page(size_t at, u8 value) {
    bytes_.resize(std::max(bytes_.size(), at + kPageSize));
    std::memset(bytes_.data() + at, value, kPageSize);
    return *this;
  }
  Bytes& cut(size_t size) {
    bytes_.resize(size);
    return *this;
  }
  std::shared_ptr<const File> file() const { return File::from_bytes(bytes_, "test.dmp"); }
  Result<dump::DumpFile> open() const { return dump::open_dump(File::from_bytes(bytes_, "test.dmp")); }

 private:
  std::vector<u8> bytes_;
};

int byte_at(const dump::DumpFile& d, u64 pa) {
  const auto slice = d.physical->at(PhysAddr(pa));
  return slice ? slice->data[0] : -1;
}

Bytes ranges(u32 type) {
  Bytes b(type);
  b.put<u32>(0x2000, 0x40).text(0x2004, "RDMPDUMP");
  b.put<u64>(0x2010, 0xFE0).put<u64>(0x2018, 0x3000).put<u32>(0x2020, 2).put<u64>(0x2028, 3);
  b.put<u64>(0x2030, 0x10).put<u64>(0x2038, 2).put<u64>(0x2040, 0x50).put<u64>(0x2048, 1);
  return b.page(0x3000, 0xA0).page(0x4000, 0xA1).page(0x5000, 0xA2);
}

TEST(CrashDump, Ranges) {
  for (const u32 type : {8U, 9U, 10U}) {
    const auto d = ranges(type).open();
    ASSERT_TRUE(d.has_value()) << text(d.error());
    EXPECT_EQ(byte_at(*d, 0x10000), 0xA0);
    EXPECT_EQ(byte_at(*d, 0x11FFF), 0xA1);
    EXPECT_EQ(byte_at(*d, 0x50000), 0xA2);
    EXPECT_EQ(byte_at(*d, 0x12000), -1);
    EXPECT_TRUE(d->gaps.empty());
    EXPECT_NE(d->description.find("not checked"), std::string::npos);
  }
}

TEST(CrashDump, LyingRanges) {
  EXPECT_FALSE(ranges(8).put<u64>(0x2018, ~u64{0}).open().has_value());
  EXPECT_FALSE(ranges(8).put<u64>(0x2018, 0x2000).open().has_value());
  EXPECT_FALSE(ranges(8).put<u64>(0x2038, ~u64{0}).open().has_value());
  EXPECT_FALSE(ranges(8).put<u64>(0x2030, 0).open().has_value());
  EXPECT_FALSE(ranges(8).text(0x2004, "NOPE").open().has_value());
  EXPECT_FALSE(ranges(8).cut(0x2020).open().has_value());
  const auto cut = ranges(8).cut(0x4800).open();
  ASSERT_TRUE(cut.has_value());
  EXPECT_EQ(cut->gaps.size(), 1u);
  EXPECT_EQ(byte_at(*cut, 0x50000), -1);
}

Bytes bitmap(u32 type) {
  Bytes b(type);
  b.text(0x2000, "SDMPDUMP").put<u64>(0x2020, 0x3000).put<u64>(0x2028, 3).put<u64>(0x2030, 100);
  b.put<u8>(0x2038, 0x06).put<u8>(0x2038 + 12, 0x08);  // pages 1, 2 and 99
  return b.page(0x3000, 1).page(0x4000, 2).page(0x5000, 3);
}

TEST(CrashDump, Bitmap) {
  for (const u32 type : {2U, 5U, 6U}) {
    const auto d = bitmap(type).open();
    ASSERT_TRUE(d.has_value()) << text(d.error());
    EXPECT_EQ(byte_at(*d, 0x1000), 1);
    EXPECT_EQ(byte_at(*d, 0x2000), 2);
    EXPECT_EQ(byte_at(*d, 99 * kPageSize), 3);
    EXPECT_EQ(byte_at(*d, 0), -1);
    EXPECT_EQ(byte_at(*d, 100 * kPageSize), -1);
    EXPECT_EQ(d->physical->contiguous(PhysAddr(0x1000)), 2 * kPageSize);
  }
}

TEST(CrashDump, LyingBitmap) {
  for (const u64 bits : {~u64{0}, ~u64{0} - 7, u64{1} << 40})
    EXPECT_FALSE(bitmap(5).put<u64>(0x2030, bits).open().has_value()) << bits;
  EXPECT_FALSE(bitmap(5).put<u64>(0x2020, ~u64{0}).open().has_value());
  EXPECT_FALSE(bitmap(5).put<u64>(0x2020, 0x2000).open().has_value());
  const auto more = bitmap(5).put<u64>(0x2028, 1000).open();
  ASSERT_TRUE(more.has_value());
  EXPECT_EQ(more->gaps.size(), 1u);
}

Bytes complete() {
  Bytes b(1);
  b.put<u32>(0x88, 2).put<u64>(0x90, 3);
  b.put<u64>(0x98, 1).put<u64>(0xA0, 2).put<u64>(0xA8, 0x100).put<u64>(0xB0, 1);
  return b.page(0x2000, 1).page(0x3000, 2).page(0x4000, 3);
}

TEST(CrashDump, Complete) {
  const auto d = complete().open();
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(byte_at(*d, 0x2000), 2);
  EXPECT_EQ(byte_at(*d, 0x100000), 3);
  EXPECT_EQ(byte_at(*d, 0), -1);
}

TEST(CrashDump, LyingRuns) {
  EXPECT_FALSE(complete().put<u32>(0x88, 0xFFFFFFFF).open().has_value());
  EXPECT_FALSE(complete().put<u32>(0x88, 43).open().has_value());
  EXPECT_FALSE(complete().put<u64>(0xA0, ~u64{0}).open().has_value());
  EXPECT_FALSE(complete().put<u64>(0xA8, 2).open().has_value());  // overlap
  EXPECT_FALSE(complete().cut(0x1FFF).open().has_value());
  EXPECT_FALSE(complete().cut(0x2000).open().has_value());
  for (size_t size = 0; size < 0x2000; size += 97)
    EXPECT_FALSE(complete().cut(size).open().has_value()) << size;
  const auto cut = complete().cut(0x3000).open();
  ASSERT_TRUE(cut.has_value());
  EXPECT_EQ(cut->gaps.size(), 1u);
}

TEST(CrashDump, RunsInAnyOrderAndAnotherCount) {
  const auto d = complete()
                     .put<u64>(0x90, 4)
                     .put<u64>(0x98, 0x100)
                     .put<u64>(0xA0, 1)
                     .put<u64>(0xA8, 1)
                     .put<u64>(0xB0, 2)
                     .open();
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(byte_at(*d, 0x100000), 1);
  EXPECT_EQ(byte_at(*d, 0x1000), 2);
  EXPECT_EQ(byte_at(*d, 0x2000), 3);
  ASSERT_EQ(d->gaps.size(), 1u);
  EXPECT_NE(d->gaps[0].why.find("has 3 pages, and counts 4"), std::string::npos);
}

// Two blocks, a driver, debugger data and the end mark, as TRIAGE_DUMP64 at 0x2000 says.
Bytes triage() {
  Bytes b(4);
  const auto field = [&](size_t at, u32 value) { b.put<u32>(0x2000 + at, value); };
  field(0x08, 0x5000);
  field(0x28, 0x3000);  // the stack
  field(0x2C, 0x100);
  field(0x30, 0x2400);
  field(0x34, 1);
  field(0x40, 0x2500);
  b.put<u64>(0x2048, 0xfffff88000001000);
  field(0x70, 0x2600);
  field(0x74, 0x340);
  field(0x78, 0x2200);
  field(0x7C, 2);
  for (const u64 i : {0, 1})
    b.put<u64>(0x2200 + i * 16, 0xfffff80000000000 + i * 0x10000)
        .put<u32>(0x2208 + i * 16, static_cast<u32>(0x3000 + i * kPageSize))
        .put<u32>(0x220C + i * 16, 0x1000);
  b.put<u32>(0x2400, 0x2500)
      .put<u64>(0x2438, 0xfffff80000000000)
      .put<u32>(0x2448, 0x2000)
      .put<u64>(0x2488, 0);
  b.put<u32>(0x2500, 3).put<u16>(0x2504, 'a').put<u16>(0x2506, 'b').put<u16>(0x2508, 'c');
  return b.page(0x3000, 1).page(0x4000, 2).text(0x5000, "TRGD");
}

TEST(CrashDump, Triage) {
  const auto d = triage().open();
  ASSERT_TRUE(d.has_value()) << text(d.error());
  EXPECT_EQ(d->virtual_blocks->ranges().size(), 3u);
  const auto slice = d->virtual_blocks->at(VirtAddr(0xfffff80000010000));
  ASSERT_TRUE(slice.has_value());
  EXPECT_EQ(slice->data[0], 2);
  ASSERT_EQ(d->triage->modules.size(), 1u);
  EXPECT_EQ(d->triage->modules[0].name, "abc");
  EXPECT_EQ(d->kdbg.size(), 0x340u);
}

// Cut at every eighth byte of what describes memory, around it, and inside of the pages.
TEST(CrashDump, TruncatedAnywhere) {
  const std::pair<const char*, Bytes> forms[] = {
      {"complete", complete()}, {"bitmap", bitmap(5)}, {"ranges", ranges(10)}, {"triage", triage()}};
  for (const auto& [name, bytes] : forms) {
    const auto whole = bytes.file();
    std::vector<u64> sizes{1, 4, 8, 0xF98, 0xF9C};
    for (u64 s = 0x1FF8; s < 0x3008; s += 8) sizes.insert(sizes.end(), {s - 1, s});
    for (u64 s = 0x3008; s < whole->size(); s += 501) sizes.push_back(s);
    int opened = 0;
    for (const u64 s : sizes)
      if (s < whole->size())
        opened += dump::survives(dump::cut(*whole, s), fmt::format("{} cut at {}", name, s));
    EXPECT_GT(opened, 2) << name;
  }
}

// Any word of what describes memory as large and as small as can be.
TEST(CrashDump, LiesAnywhere) {
  const std::pair<const char*, Bytes> forms[] = {
      {"complete", complete()}, {"bitmap", bitmap(5)}, {"ranges", ranges(10)}, {"triage", triage()}};
  for (const auto& [name, bytes] : forms) {
    const auto whole = bytes.file();
    for (u64 at = 0x80; at < 0x2700; at += at == 0xD0 ? 0x1F30 : 4)
      for (const u32 value : {0U, 1U, 0x7FFFFFFFU, 0xFFFFFFFFU})
        if (at + 4 <= whole->size())
          dump::survives(dump::patched(*whole, at, &value, 4),
                         fmt::format("{}: {:#x} at {:#x}", name, value, at));
  }
}

TEST(CrashDump, TypesWithoutMemory) {
  for (const u32 type : {0U, 3U, 7U, 11U, 0x45474150U}) EXPECT_FALSE(Bytes(type).open().has_value()) << type;
}

// Counts that contradict each other shift or lose pages: not without a word.
TEST(CrashDump, RangesThatContradictTheirCount) {
  Bytes b = ranges(10);
  b.put<u64>(0x2028, 5);
  const auto d = b.open();
  ASSERT_TRUE(d.has_value()) << text(d.error());
  EXPECT_TRUE(
      std::ranges::any_of(d->gaps, [](const Gap& g) { return g.why.find("counts 5 pages") != g.why.npos; }));
  EXPECT_FALSE(ranges(10).put<u64>(0x2038, 0).open().has_value()) << "a range of no page";
  EXPECT_FALSE(ranges(8).put<u64>(0x2040, 0x11).open().has_value()) << "ranges that overlap";
}

}  // namespace
}  // namespace unhang
