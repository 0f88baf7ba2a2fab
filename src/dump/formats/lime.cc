// LiME images: what the Linux Memory Extractor writes with format=lime, and AVML when it does not compress
// (FORMATS 4). Ranges of physical memory one behind the other, each behind a header:
// lime_mem_range_header {u32 magic, version; u64 first, last; u8 reserved[8]}, little-endian, the last
// address belongs to the range (LiME's src/lime.h and README). No registers.
//
// Written from that description: no real file was at hand. A Windows guest's memory comes in this form only
// when somebody converted it.
#include "base/format.h"
#include "dump/dump_file.h"

namespace unhang::dump {

namespace {

constexpr const char* kType = "LiME image";
constexpr std::string_view kMagic = "EMiL";
constexpr u64 kHeaderSize = 32;

bool probe(const File& file) {
  return file.bytes().starts_with(kMagic);
}

// Null, or what is wrong with a range's header.
const char* wrong(ByteView h) {
  if (!h.starts_with(kMagic)) return "no range begins where one must";
  if (h.at<u32>(4) != 1) return "a range of an unknown version";
  const u64 first = h.at<u64>(8), last = h.at<u64>(16);
  if (last < first || last - first == ~u64{0}) return "a range ends before it begins";
  return nullptr;
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions&) {
  const ByteView b = file->bytes();
  DumpFile dump;
  std::vector<MappedSource<PhysAddr>::Run> runs;
  u64 partial = 0;
  for (u64 at = 0; at < b.size();) {
    const auto header = b.sub(at, kHeaderSize);
    const char* why = header ? wrong(*header) : "the file is truncated inside the header of a range";
    if (why != nullptr) {
      if (runs.empty()) return fail(Error{.why = Why::bad_file, .offset = at, .type = kType, .detail = why});
      dump.gaps.push_back({"guest memory", hex(at), why});
      break;
    }
    const u64 first = header->at<u64>(8), size = header->at<u64>(16) - first + 1;
    at += kHeaderSize;
    runs.push_back({PhysAddr(first), size, at});
    partial += size % kPageSize != 0 ? 1 : 0;
    if (size > b.size() - at) break;
    at += size;
  }
  const size_t count = runs.size();
  auto source = std::make_unique<MappedSource<PhysAddr>>(file, std::move(runs));
  if (source->ranges().empty())
    return fail(Error{.why = Why::bad_file, .type = kType, .detail = "truncated before any memory"});
  if (source->lost() != 0)
    dump.gaps.push_back(
        {"guest memory", "",
         fmt::format("the file is truncated: {} bytes of its ranges are missing", source->lost())});
  if (partial != 0)
    dump.gaps.push_back({"guest memory", "",
                         fmt::format("{} inside of a page, whose part is not converted",
                                     counted(partial, "range ends", "ranges end")),
                         true});
  dump.gaps.push_back({"CPU registers", "", "a LiME image holds none"});
  dump.description =
      fmt::format("LiME image, {}, not checked against a real file", counted(count, "range", "ranges"));
  dump.physical = std::move(source);
  return dump;
}

}  // namespace

extern const Format lime_format;
const Format lime_format{.name = "lime", .order = 20, .probe = probe, .open = open};

}  // namespace unhang::dump
