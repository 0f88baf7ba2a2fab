// What ties an image to its PDB: the CodeView record "RSDS" (public: PE/COFF specification, cvinfo.h).
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/types.h"

namespace unhang::image {

struct PdbId {
  std::string name;           // "ntkrnlmp.pdb", without a path
  std::array<u8, 16> guid{};  // as it lies in memory
  u32 age = 0;

  // 32 hexadecimal digits in the order of the symbol server: "339E74133576439CBCDF7E0229DA3773".
  std::string guid_text() const;
  // guid_text() and the age in hexadecimal: the directory's name on a symbol server.
  std::string key() const;
  bool same(const PdbId& other) const { return guid == other.guid && age == other.age; }
  // From 32 digits; nothing when the text is something else.
  static bool parse_guid(std::string_view text, std::array<u8, 16>& guid);
};

}  // namespace unhang::image
