// The bytes of a layout file. Reader and builder share these records; a change needs another magic.
#pragma once

#include <array>

#include "symbols/layout.h"

namespace unhang::symbols {

inline constexpr std::array<char, 8> kMagic = {'u', 'n', 'h', 'l', 'a', 'y', '0', '1'};
inline constexpr size_t kTables = 7;

struct FileHeader {
  std::array<char, 8> magic;
  std::array<u8, 16> guid;
  u32 age;
  u32 pdb_name, build, origin;  // strings
  u64 size;                     // of the whole file
  // Offset and count of: types, members, enumerators, refs, symbols, by_name, strings.
  std::array<std::array<u64, 2>, kTables> tables;
};
static_assert(sizeof(FileHeader) == 160);

struct FileType {
  u32 name, size, first, count;
  u32 flags;  // kIsEnum, kPartial
};
inline constexpr u32 kIsEnum = 1, kPartial = 2;

struct FileMember {
  u32 name, offset, ref;
  u8 bit_offset, bit_length;
  u16 unused;
};

struct FileEnumerator {
  i64 value;
  u32 name, unused;
};

struct FileSymbol {
  u32 rva, name;
};

inline constexpr std::array<u64, kTables> kRecordSize = {sizeof(FileType),
                                                         sizeof(FileMember),
                                                         sizeof(FileEnumerator),
                                                         sizeof(TypeRef),
                                                         sizeof(FileSymbol),
                                                         sizeof(u32),
                                                         1};

}  // namespace unhang::symbols
