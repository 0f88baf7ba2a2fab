// What a directory holds, from NTFS records anywhere in RAM: a parallel scan of physical memory for index
// buffers and file records, then the names of the one directory that is asked for.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/confidence.h"
#include "dump/page_scan.h"

namespace unhang::nt::ntfs {

struct PatternCount {
  std::string pattern;  // "sess_*"
  u64 count = 0;
  std::string example;
};

struct DirectoryContents {
  u64 reference = 0;  // file reference of the directory; 0: not found
  std::string how;    // how it was told which directory this is
  Confidence confidence = Confidence::heuristic;
  u64 names = 0;                       // different files
  u64 indexed_names = 0;               // different files seen in index buffers
  u64 index_buffers = 0;               // of this directory
  u64 file_records = 0;                // of files in this directory
  u64 raw_fixups = 0;                  // index buffers that were as on disk
  u64 short_names = 0;                 // entries that are 8.3 aliases
  std::vector<PatternCount> patterns;  // most frequent first
  u64 oldest = 0, newest = 0;          // creation, 100 ns since 1601
  std::string oldest_name, newest_name;
  // How much of the memory was looked at before the time was up.
  u64 bytes_scanned = 0, bytes_total = 0;
  double seconds = 0;
};

// directory: its path on the volume, "\Windows\Temp". children: names of files that are known to be in it,
// from open file objects; they tell which directory reference it is.
DirectoryContents scan_directory(const dump::PageSource<PhysAddr>& physical, const std::string& directory,
                                 const std::vector<std::string>& children, const dump::ScanOptions& options);

// "sess_0kc1lm..." -> "sess_*": letters up to the first separator or digit, and the extension.
std::string pattern_of(const std::string& name);

}  // namespace unhang::nt::ntfs
