// QEMU's migration stream ("QEVM"): what plain `virsh dump`, `virsh save`, memory snapshots and Proxmox RAM
// states consist of (FORMATS 2.3). This is its outer form and the "ram" section; devices: migration_device.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "dump/page_bitmap.h"

namespace unhang::dump {

// A block of guest RAM or ROM. Blocks stand behind each other in one numbering of pages.
struct RamBlock {
  std::string name;  // "pc.ram", "ram-node0", "vga.vram" ...
  u64 start = 0;     // first page
  u64 size = 0;      // pages
  // Only in files written with the capability mapped-ram: pages lie at their place, clear bits are zeros.
  bool mapped = false;
  PageBitmap present;
  u64 pages_offset = 0;
};

// Pages that follow each other in the guest and, each behind its 8-byte record, in the file.
struct PageRun {
  static constexpr u64 kStride = 8 + kPageSize;
  u64 start = 0;   // page
  u64 size = 0;    // pages
  u64 offset = 0;  // of the first page's bytes; 0: pages of zeros
  void skip(u64 n) {
    start += n;
    size -= n;
    if (offset != 0) offset += n * kStride;
  }
};

struct MigrationStream {
  std::shared_ptr<const File> file;
  std::string machine;  // "pc-i440fx-7.2"; empty in streams of machines before 2.4
  std::vector<RamBlock> blocks;
  std::vector<PageRun> runs;  // sorted, disjoint: a page that was sent again has its last content
  u64 devices = 0;            // where the sections of the devices begin; 0: the stream ends before
  std::vector<Gap> gaps;
};

// Goes through the whole stream once. Errors: bad_file (no RAM), unsupported (a version or a compression that
// is not read here), limit (progress said stop).
Result<MigrationStream> read_migration(std::shared_ptr<const File> file, u64 offset,
                                       const Progress& progress);

}  // namespace unhang::dump
