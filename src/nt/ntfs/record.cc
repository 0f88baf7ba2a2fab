#include "nt/ntfs/record.h"

#include "base/bytes.h"

namespace unhang::nt::ntfs {

namespace {

constexpr u64 kSector = 512;
constexpr u64 kFileNameSize = 0x42;  // of $FILE_NAME without the name itself

// A $FILE_NAME structure. False: it cannot be one.
bool read_name(ByteView b, u64 file, Name& out) {
  const u8 length = b.at<u8>(0x40);
  const auto text = b.sub(kFileNameSize, length * u64{2});
  if (length == 0 || !text) return false;
  out = {.file = file,
         .parent = b.at<u64>(0),
         .created = b.at<u64>(8),
         .size = b.at<u64>(0x30),
         .flags = b.at<u32>(0x38),
         .name_space = b.at<u8>(0x41),
         .utf16 = text->span()};
  return out.name_space <= 3;
}

}  // namespace

Fixup apply_fixups(std::span<u8> record) {
  const ByteView b{record};
  const u16 offset = b.at<u16>(4), count = b.at<u16>(6);
  const u64 sectors = record.size() / kSector;
  // The array holds the sequence number and one entry a sector.
  if (count == 0 || count > sectors + 1 || !b.covers(offset, count * u64{2}) || offset < 0x28)
    return Fixup::damaged;
  const u16 sequence = b.at<u16>(offset);
  // A real value may happen to equal the sequence number, so each state must hold for all sectors.
  bool raw = true, restored = true;
  for (u64 i = 1; i < count; i++) {
    const u16 end = b.at<u16>(i * kSector - 2);
    raw &= end == sequence;
    restored &= end == b.at<u16>(offset + i * 2);
  }
  if (restored) return Fixup::applied_before;
  if (!raw) return Fixup::damaged;
  for (u64 i = 1; i < count; i++) {
    record[i * kSector - 2] = record[offset + i * 2];
    record[i * kSector - 1] = record[offset + i * 2 + 1];
  }
  return Fixup::applied_here;
}

void for_each_index_name(std::span<const u8> buffer, const std::function<void(const Name&)>& visit) {
  const ByteView b{buffer};
  constexpr u64 kHeader = 0x18;  // INDEX_HEADER: offsets in it count from here
  const u64 first = kHeader + b.at<u32>(kHeader), end = kHeader + b.at<u32>(kHeader + 4);
  if (first >= b.size() || end > b.size()) return;
  for (u64 at = first; at + 0x10 <= end;) {
    const u16 length = b.at<u16>(at + 8), stream = b.at<u16>(at + 10), flags = b.at<u16>(at + 12);
    if (length < 0x10 || length % 8 != 0 || at + length > end) return;
    if ((flags & 2) != 0) return;  // the end entry
    // A name ends in its entry: what lies behind is another file's.
    Name name;
    const auto value = b.sub(at + 0x10, stream);
    if (value && stream + u64{0x10} <= length && read_name(*value, b.at<u64>(at), name)) visit(name);
    at += length;
  }
}

void for_each_file_name(std::span<const u8> record, const std::function<void(const Name&)>& visit) {
  const ByteView b{record};
  constexpr u32 kFileName = 0x30, kEnd = 0xffffffff;
  if ((b.at<u16>(0x16) & 1) == 0) return;  // not in use: a deleted file
  const u64 used = std::min<u64>(b.at<u32>(0x18), b.size());
  // The record's own number stands in it since Windows XP; the sequence belongs to the reference.
  const u64 file = b.at<u32>(0x2c) | u64{b.at<u16>(0x10)} << 48;
  for (u64 at = b.at<u16>(0x14); at + 0x18 <= used;) {
    const u32 type = b.at<u32>(at), length = b.at<u32>(at + 4);
    if (type == kEnd || length < 0x18 || length % 8 != 0 || at + length > used) return;
    if (type == kFileName && b.at<u8>(at + 8) == 0) {  // resident
      Name name;
      const u16 offset = b.at<u16>(at + 0x14);
      const auto value = b.sub(at + offset, length - std::min<u64>(offset, length));
      if (value && read_name(*value, file, name)) visit(name);
    }
    at += length;
  }
}

}  // namespace unhang::nt::ntfs
