#include "image/pdb_id.h"

#include <cstring>

#include "base/format.h"

namespace unhang::image {

namespace {
// A GUID prints its first three fields as numbers, so their bytes come in reverse.
constexpr int kOrder[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
}  // namespace

std::string PdbId::guid_text() const {
  std::string s;
  for (int i : kOrder) s += fmt::format("{:02X}", guid[static_cast<size_t>(i)]);
  return s;
}

std::string PdbId::key() const {
  return fmt::format("{}{:X}", guid_text(), age);
}

bool PdbId::parse_guid(std::string_view text, std::array<u8, 16>& guid) {
  if (text.size() != 32) return false;
  for (size_t i = 0; i < 16; i++) {
    const int high = digit(text[i * 2]), low = digit(text[i * 2 + 1]);
    if (high < 0 || low < 0) return false;
    guid[static_cast<size_t>(kOrder[i])] = static_cast<u8>(high * 16 + low);
  }
  return true;
}

}  // namespace unhang::image
