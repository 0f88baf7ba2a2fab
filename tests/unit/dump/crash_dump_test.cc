// Crash dumps made by hand: the forms that nobody's writer makes here, and headers that lie.
#include <gtest/gtest.h>

#include <cstring>

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
  EXPECT_FALSE(complete().put<u64>(0x90, 4).open().has_value());  // its own count differs
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

TEST(CrashDump, TypesWithoutMemory) {
  for (const u32 type : {0U, 3U, 7U, 11U, 0x45474150U}) EXPECT_FALSE(Bytes(type).open().has_value()) << type;
}

}  // namespace
}  // namespace unhang
