// Where QEMU's x86 machines put their RAM blocks in guest-physical memory (FORMATS 2.3).
#pragma once

#include <string>
#include <vector>

#include "dump/migration_stream.h"

namespace unhang::dump {

// A stretch of guest-physical memory and the pages of the stream that it is.
struct MapPiece {
  u64 start = 0;  // guest-physical page
  u64 size = 0;   // pages
  u64 page = 0;   // in the numbering of RamBlock::start
};
using GuestMap = std::vector<MapPiece>;  // sorted, disjoint

// Where a DIMM was plugged, when somebody (libvirt's XML) says so.
struct DimmPlace {
  u32 slot = 0;
  u64 base = 0;
};

struct GuestMaps {
  // The most likely one first: the stream does not say where the hole below 4 GiB begins, the machine's type
  // and the amount of RAM do, unless somebody set max-ram-below-4g.
  std::vector<GuestMap> maps;
  std::vector<Gap> gaps;
};

// Errors: bad_file when no block is guest RAM.
Result<GuestMaps> guest_maps(const MigrationStream& stream, const std::vector<DimmPlace>& dimms);

}  // namespace unhang::dump
