#include "synth/cabinet.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "base/check.h"

namespace unhang::synth {

namespace {

constexpr size_t kFrame = 32768;

template <class T>
void add(std::vector<u8>& out, T value) {
  const auto* p = reinterpret_cast<const u8*>(&value);
  out.insert(out.end(), p, p + sizeof value);
}

// "CK" and a raw deflate stream whose window goes on from the block before ([MS-MCI]): here every block
// stands alone.
std::vector<u8> mszip(std::span<const u8> frame) {
  z_stream z{};
  UNHANG_CHECK(deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::vector<u8> out{'C', 'K'};
  out.resize(2 + deflateBound(&z, frame.size()));
  z.next_in = const_cast<u8*>(frame.data());
  z.avail_in = static_cast<uInt>(frame.size());
  z.next_out = out.data() + 2;
  z.avail_out = static_cast<uInt>(out.size() - 2);
  UNHANG_CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(2 + z.total_out);
  deflateEnd(&z);
  return out;
}

// One uncompressed block ([MS-PATCH] 2.3, 2.6): a bit that says no E8 translation, 3 bits of block type, 24
// of size, in words whose highest bit comes first; then three repeated offsets and the bytes.
std::vector<u8> lzx(std::span<const u8> frame) {
  const u32 bits = (u32{3} << 24 | static_cast<u32>(frame.size())) << 4;
  std::vector<u8> out;
  add(out, static_cast<u16>(bits >> 16));
  add(out, static_cast<u16>(bits));
  for (int i = 0; i < 3; i++) add(out, u32{1});
  out.insert(out.end(), frame.begin(), frame.end());
  if (frame.size() % 2 != 0) out.push_back(0);
  return out;
}

}  // namespace

std::vector<u8> cabinet(const std::vector<u8>& bytes, const std::string& name, CabinetOptions o) {
  std::vector<std::vector<u8>> blocks;
  std::vector<u16> sizes;
  for (size_t at = 0; at < bytes.size(); at += kFrame) {
    const std::span<const u8> frame(bytes.data() + at, std::min(kFrame, bytes.size() - at));
    blocks.push_back(o.lzx ? lzx(frame) : mszip(frame));
    sizes.push_back(static_cast<u16>(frame.size()));
  }
  // CFHEADER (36 bytes), CFFOLDER (8), CFFILE (16 and the name), CFDATA (8 and the data).
  const u32 files = 36 + 8, data = files + 16 + static_cast<u32>(name.size()) + 1;
  std::vector<u8> out;
  for (const char c : {'M', 'S', 'C', 'F'}) out.push_back(static_cast<u8>(c));
  u32 total = data;
  for (const auto& b : blocks) total += 8 + static_cast<u32>(b.size());
  for (const u32 v : {u32{0}, total, u32{0}, files, u32{0}}) add(out, v);
  out.push_back(3);
  out.push_back(1);
  for (const u16 v : {u16{1}, u16{1}, u16{0}, u16{0}, u16{0}}) add(out, v);
  add(out, data);
  add(out, o.claimed_blocks != 0 ? o.claimed_blocks : static_cast<u16>(blocks.size()));
  add(out, static_cast<u16>(o.lzx ? 0x0f03 : 1));
  add(out, o.claimed_size != 0 ? o.claimed_size : static_cast<u32>(bytes.size()));
  add(out, o.file_offset);
  for (const u16 v : {u16{0}, u16{0}, u16{0}, u16{0x20}}) add(out, v);
  out.insert(out.end(), name.begin(), name.end());
  out.push_back(0);
  for (size_t i = 0; i < blocks.size(); i++) {
    add(out, u32{0});  // no checksum
    add(out, static_cast<u16>(blocks[i].size()));
    add(out, sizes[i]);
    out.insert(out.end(), blocks[i].begin(), blocks[i].end());
  }
  return out;
}

}  // namespace unhang::synth
