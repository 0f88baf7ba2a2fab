// Guest memory from a dump of any form into an output file.
#pragma once

#include <span>
#include <vector>

#include "base/progress.h"
#include "dump/pages.h"
#include "dump/writers/output_file.h"

namespace unhang::dump {

// Where a range of memory goes.
struct Placed {
  PhysRange range;
  u64 offset = 0;  // in the output
};

// Bytes that replace those of the dump. Lies inside of one page.
struct Patch {
  PhysAddr at{};
  std::vector<u8> bytes;
};

struct Copied {
  u64 bytes = 0;
  // Pages that the dump promises and cannot give (a damaged block of a compressed dump): zeros in the output.
  u64 unreadable_pages = 0;
  PhysAddr first_unreadable{};
  // Patches of pages that are in no placed range.
  u64 lost_patches = 0;
};

// In parallel. Ranges of pages are whole pages. Errors: io, limit (the caller's progress said stop).
Result<Copied> copy_memory(const PageSource<PhysAddr>& source, std::span<const Placed> placed,
                           std::span<const Patch> patches, const OutputFile& out, const Progress& progress);

// Ranges cut to the pages that lie in them whole.
std::vector<PhysRange> whole_pages(std::span<const PhysRange> ranges);
// What is in both; each sorted and disjoint.
std::vector<PhysRange> intersection(std::span<const PhysRange> a, std::span<const PhysRange> b);

}  // namespace unhang::dump
