// Raw memory: pmemsave, dd, a copy of a memory-backend file (FORMATS 4). No signature, no registers.
//
// pmemsave writes guest-physical addresses, so the hole below 4 GiB is in the file; a copy of the RAM file
// has no hole, and the part above it lies at 4 GiB in the guest. The file does not say which it is: the
// reading without a hole is offered as an alternative, and whoever looks for Windows tries both.
#include "base/format.h"
#include "dump/dump_file.h"

namespace unhang::dump {

namespace {

constexpr u64 kLeast = 1 << 20;
constexpr u64 k4G = u64{1} << 32;

// Text, logs and the like: no NUL byte at all in the first page.
bool looks_like_text(ByteView b) {
  const auto head = b.sub(0, std::min<u64>(b.size(), kPageSize))->span();
  for (u8 c : head)
    if (c == 0) return false;
  return true;
}

bool probe(const File& file) {
  return file.size() >= kLeast && !looks_like_text(file.bytes());
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions&) {
  DumpFile dump;
  using Runs = std::vector<MappedSource<PhysAddr>::Run>;
  const u64 size = file->size();
  dump.physical = std::make_unique<MappedSource<PhysAddr>>(file, Runs{{PhysAddr(0), size, 0}});
  // Where QEMU's pc (3 GiB) and q35 (2 GiB) machines put the hole.
  for (const u64 low : {u64{0xC0000000}, u64{0x80000000}}) {
    if (size <= low) continue;
    dump.alternatives.push_back(std::make_unique<MappedSource<PhysAddr>>(
        file, Runs{{PhysAddr(0), low, 0}, {PhysAddr(k4G), size - low, low}}));
  }
  dump.description = "raw memory without a header";
  if (size % kPageSize != 0)
    dump.gaps.push_back({"guest memory", "", "the file ends in the middle of a page: it is truncated"});
  dump.gaps.push_back({"CPU registers", "", "raw memory holds none"});
  return dump;
}

}  // namespace

extern const Format raw_format;
const Format raw_format{.name = "raw", .order = 1000, .probe = probe, .open = open};

}  // namespace unhang::dump
