// NTFS on-disk structures as they lie in memory: index buffers ("INDX": the entries of a directory) and file
// records ("FILE": one file of the MFT). Public sources: the on-disk format as documented by the Linux-NTFS
// project and by Microsoft's ntfs.h-like descriptions in the WDK documentation.
//
// The file system protects each 512-byte sector of such a record with a fix-up: on disk the last two bytes of
// every sector hold a sequence number, the real bytes stand in an array in the header. In memory both states
// occur: cached pages are as on disk, NTFS's own copies are already restored.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/types.h"

namespace unhang::nt::ntfs {

// One name of one file: a $FILE_NAME attribute or a directory entry.
struct Name {
  u64 file = 0;     // file reference: record number (48 bits) and sequence (16 bits)
  u64 parent = 0;   // file reference of the directory
  u64 created = 0;  // 100 ns since 1601
  u64 size = 0;
  u32 flags = 0;      // FILE_ATTRIBUTE_*; 0x10000000: a directory
  u8 name_space = 0;  // 0 POSIX, 1 Win32, 2 DOS (8.3), 3 both
  std::span<const u8> utf16;
  bool directory() const { return (flags & 0x10000000) != 0; }
};

enum class Fixup : u8 { none, applied_here, applied_before, damaged };

inline constexpr u64 kRecordNumberMask = 0x0000'ffff'ffff'ffff;

// Restores the sector ends of a record in place. damaged: the sequence numbers do not match at all.
Fixup apply_fixups(std::span<u8> record);

// Names of an index buffer (4 KiB, fixed up). Stops at the first entry that cannot be.
void for_each_index_name(std::span<const u8> buffer, const std::function<void(const Name&)>& visit);

// Names of a file record (1 KiB or 4 KiB, fixed up) that is in use.
void for_each_file_name(std::span<const u8> record, const std::function<void(const Name&)>& visit);

}  // namespace unhang::nt::ntfs
