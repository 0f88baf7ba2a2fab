#include "base/utf.h"

namespace unhang {

namespace {

void append(std::string& s, u32 c) {
  if (c < 0x20 || c == 0x7f) {
    s += '?';
  } else if (c < 0x80) {
    s += static_cast<char>(c);
  } else if (c < 0x800) {
    s += static_cast<char>(0xc0 | c >> 6);
    s += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    s += static_cast<char>(0xe0 | c >> 12);
    s += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    s += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    s += static_cast<char>(0xf0 | c >> 18);
    s += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    s += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    s += static_cast<char>(0x80 | (c & 0x3f));
  }
}

}  // namespace

std::string utf16_to_utf8(std::span<const u8> bytes) {
  std::string s;
  const size_t units = bytes.size() / 2;
  const auto unit = [&](size_t i) { return static_cast<u32>(bytes[i * 2] | bytes[i * 2 + 1] << 8); };
  for (size_t i = 0; i < units; i++) {
    const u32 c = unit(i);
    if (c < 0xd800 || c > 0xdfff) {
      append(s, c);
    } else if (c < 0xdc00 && i + 1 < units && unit(i + 1) >= 0xdc00 && unit(i + 1) <= 0xdfff) {
      append(s, 0x10000 + ((c - 0xd800) << 10) + (unit(++i) - 0xdc00));
    } else {
      append(s, 0xfffd);
    }
  }
  return s;
}

std::string printable(std::string_view text) {
  std::string s(text);
  for (char& c : s)
    if (c < 0x20 || c > 0x7e) c = '?';
  return s;
}

}  // namespace unhang
