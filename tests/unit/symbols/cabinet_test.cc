// Cabinets of symbol servers, good ones and hostile ones.
#include "symbols/cabinet.h"

#include <gtest/gtest.h>

#include "synth/cabinet.h"

namespace unhang::symbols {
namespace {

using synth::cabinet;

std::vector<u8> text(size_t size) {
  std::vector<u8> bytes(size);
  for (size_t i = 0; i < size; i++) bytes[i] = static_cast<u8>(i * 7 + i / 1000);
  return bytes;
}

struct Unpacked {
  Result<u64> size = fail(Why::io, nullptr);
  std::vector<u8> bytes;
};
Unpacked unpack(const std::vector<u8>& packed, u64 most = 1 << 20) {
  Unpacked u;
  u.size = unpack_cabinet(ByteView(packed), most, [&](std::span<const u8> bytes) {
    u.bytes.insert(u.bytes.end(), bytes.begin(), bytes.end());
    return true;
  });
  return u;
}

TEST(CabinetTest, Mszip) {
  for (const size_t size : {size_t{1}, size_t{32768}, size_t{100'001}}) {
    const auto u = unpack(cabinet(text(size), "a.pdb"));
    ASSERT_TRUE(u.size.has_value()) << unhang::text(u.size.error());
    EXPECT_EQ(*u.size, size);
    EXPECT_EQ(u.bytes, text(size));
  }
}

TEST(CabinetTest, Lzx) {
  const auto u = unpack(cabinet(text(30'000), "a.pdb", {.lzx = true}));
  ASSERT_TRUE(u.size.has_value()) << unhang::text(u.size.error());
  EXPECT_EQ(u.bytes, text(30'000));
}

TEST(CabinetTest, LyingSizes) {
  // More than there is, far more than there is, a place far behind, more blocks than there are.
  EXPECT_EQ(unpack(cabinet(text(5000), "a", {.claimed_size = 6000})).size.error().why, Why::bad_file);
  EXPECT_EQ(unpack(cabinet(text(5000), "a", {.claimed_size = 0x7fff0000})).size.error().why, Why::limit);
  EXPECT_EQ(unpack(cabinet(text(5000), "a", {.file_offset = 0xfffffff0})).size.error().why, Why::limit);
  EXPECT_EQ(unpack(cabinet(text(5000), "a", {.file_offset = 100'000})).size.error().why, Why::bad_file);
  EXPECT_EQ(unpack(cabinet(text(5000), "a", {.claimed_size = 40'000, .claimed_blocks = 2})).size.error().why,
            Why::bad_file);
  // What would be too much is not begun.
  const auto u = unpack(cabinet(text(5000), "a"), 4999);
  EXPECT_EQ(u.size.error().why, Why::limit);
  EXPECT_TRUE(u.bytes.empty());
}

TEST(CabinetTest, CutAnywhere) {
  const auto whole = cabinet(text(40'000), "a.pdb");
  for (size_t size = 0; size < whole.size(); size += size < 100 ? 1 : 97) {
    const std::vector<u8> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(unpack(part).size.has_value()) << size;
  }
}

TEST(CabinetTest, SinkThatRefuses) {
  const auto packed = cabinet(text(40'000), "a.pdb");
  const auto r = unpack_cabinet(ByteView(packed), 1 << 20, [](std::span<const u8>) { return false; });
  EXPECT_EQ(r.error().why, Why::io);
}

}  // namespace
}  // namespace unhang::symbols
