// kdump-compressed dumps: `virsh dump --memory-only --format kdump-{zlib,lzo,snappy}` and QEMU's
// dump-guest-memory write them flattened, makedumpfile -R and QEMU 8.2's kdump-raw-* assembled (FORMATS 1.3).
//
// Folklore handled here:
// - Of the header block only 464 bytes exist in a flattened file; the rest of a block is a hole that only
//   assembling fills with zeros. Nothing is read that its structure does not name.
// - utsname.machine says x86_64 even when CPU 0 was not in long mode.
// - The header of a 32-bit kernel is 12 bytes shorter (its timestamp has no padding).
// - QEMU writes both bitmaps equal; makedumpfile clears excluded pages in the second one only. Such a page is
//   not in the dump; it is not a page of zeros.
#include <algorithm>

#include "base/format.h"
#include "dump/dump_file.h"
#include "dump/kdump_source.h"
#include "dump/note.h"

namespace unhang::dump {

namespace {

constexpr const char* kType = "kdump";
constexpr u64 kHeaderSize = 464, kSubHeaderSize = 104;
constexpr u16 kMachineX86_64 = 62;
constexpr u64 kMostPages = u64{1} << 34;  // 64 TiB of guest addresses
constexpr u64 kMostNotes = 64 << 20;      // 4096 CPUs need 4 MiB

std::unexpected<Error> bad(const char* detail, u64 offset = 0) {
  return fail(Error{.why = Why::bad_file, .offset = offset, .type = kType, .detail = detail});
}
std::unexpected<Error> unsupported(const char* detail) {
  return fail(Error{.why = Why::unsupported, .type = kType, .detail = detail});
}

bool probe(const File& file) {
  return file.bytes().starts_with("KDUMP   ") || LogicalFile::is_flattened(file);
}

struct Header {
  KdumpLayout layout;
  u64 notes = 0, notes_size = 0;
  u32 compression = 0;
};

// The sub header grew with the version; what a version does not have reads as zero.
Result<Header> read_sub_header(const LogicalFile& file, u32 version, u32 max_mapnr) {
  std::array<u8, kSubHeaderSize> room{};
  const auto s = file.read(kPageSize, room);
  if (!s) return bad("truncated inside the sub header");
  Header h;
  h.layout.pages = version >= 6 ? s->at<u64>(96) : max_mapnr;
  if (version >= 2 && s->at<u32>(12) != 0) {
    h.layout.first_pfn = version >= 6 ? s->at<u64>(80) : s->at<u64>(16);
    h.layout.last_pfn = version >= 6 ? s->at<u64>(88) : s->at<u64>(24);
  }
  if (version >= 4) {
    h.notes = s->at<u64>(48);
    h.notes_size = s->at<u64>(56);
  }
  return h;
}

Result<Header> read_header(const LogicalFile& file) {
  std::array<u8, kHeaderSize> room{};
  const auto h = file.read(0, room);
  if (!h) return bad("truncated inside the header");
  if (!h->starts_with("KDUMP   ")) return bad("a flattened file that holds no kdump");
  const std::string_view machine = h->c_string(272, 65);
  if (machine == "aarch64")
    return unsupported("unsupported machine ARM64: only x64 Windows guests are supported");
  if (h->at<u32>(428) != kPageSize) {
    if (h->at<u32>(416) == kPageSize)
      return unsupported("a 32-bit (x86) guest: only x64 guests are supported");
    return bad("its block size is not 4096", 428);
  }
  const u32 version = h->at<u32>(8);
  const u64 sub_blocks = h->at<u32>(432), bitmap_blocks = h->at<u32>(436);
  if (sub_blocks == 0) return bad("it has no sub header", 432);
  Header out = TRY(read_sub_header(file, version, h->at<u32>(440)));
  out.compression = h->at<u32>(424);
  out.layout.bitmap = (1 + sub_blocks) * kPageSize;
  out.layout.bitmap_bytes = bitmap_blocks * kPageSize / 2;
  out.layout.descriptors = (1 + sub_blocks + bitmap_blocks) * kPageSize;
  const u64 pages = out.layout.pages;
  if (pages == 0 || pages > kMostPages) return bad("its page count is impossible", kPageSize + 96);
  if (pages > out.layout.bitmap_bytes * 8) return bad("its bitmap is smaller than its page count", 436);
  return out;
}

Notes read_notes_of(const LogicalFile& file, const Header& h, std::vector<Gap>& gaps) {
  if (h.notes_size == 0) return {};
  const u64 there = h.notes >= file.size() ? 0 : std::min(h.notes_size, file.size() - h.notes);
  if (h.notes_size > kMostNotes) {
    gaps.push_back(
        {"CPU notes", hex(h.notes), fmt::format("their size of {} bytes is impossible", h.notes_size)});
    return {};
  }
  std::vector<u8> room(there);
  const auto bytes = file.read(h.notes, room);
  if (there < h.notes_size || !bytes)
    gaps.push_back({"CPU notes", hex(h.notes), "the file is truncated inside them"});
  return bytes ? read_notes(*bytes, kMachineX86_64) : Notes{};
}

// Whether the bitmap, which is as long as whole blocks make it, names pages that the header does not count.
bool pages_behind_count(const LogicalFile& file, const KdumpLayout& layout) {
  constexpr u64 kMostLooked = 1 << 20;
  const u64 whole = layout.pages / 8, rest = std::min(layout.bitmap_bytes - whole, kMostLooked);
  std::vector<u8> room(rest);
  const auto bytes = file.read(layout.bitmap + layout.bitmap_bytes + whole, room);
  if (!bytes || bytes->empty()) return false;
  const auto all = bytes->span();
  return all[0] >> (layout.pages % 8) != 0 ||
         std::any_of(all.begin() + 1, all.end(), [](u8 b) { return b != 0; });
}

Result<std::unique_ptr<KdumpSource>> open_pages(LogicalFile file, const Header& h) {
  const u64 second = h.layout.bitmap + h.layout.bitmap_bytes;
  const u64 bytes = (h.layout.pages + 7) / 8;
  // Before anything is allocated: a file that holds the bitmap is at least as large.
  if (second + bytes > file.size()) return bad("truncated inside the page bitmaps", second);
  std::vector<u8> room;
  auto bits = file.in_place(second, bytes);
  if (!bits) {
    room.resize(bytes);
    bits = file.read(second, room);
  }
  if (!bits) return bad("truncated inside the page bitmaps", second);
  PageBitmap stored(*bits, h.layout.pages);
  if (stored.total() == 0) return bad("the bitmap names no page", second);
  if (file.size() <= h.layout.descriptors) return bad("truncated before any memory", h.layout.descriptors);
  return std::make_unique<KdumpSource>(std::move(file), h.layout, std::move(stored), std::move(room));
}

Result<DumpFile> open(std::shared_ptr<const File> mapped, const OpenOptions& options) {
  LogicalFile file = LogicalFile::is_flattened(*mapped)
                         ? TRY(LogicalFile::flattened(mapped, options.progress))
                         : LogicalFile::plain(mapped);
  const bool flattened = file.flattened(), cut = file.truncated();
  const Header h = TRY(read_header(file));
  DumpFile dump;
  Notes notes = read_notes_of(file, h, dump.gaps);
  const bool uncounted = pages_behind_count(file, h.layout);
  auto source = TRY(open_pages(std::move(file), h));

  dump.gaps.insert(dump.gaps.end(), notes.gaps.begin(), notes.gaps.end());
  if (uncounted)
    dump.gaps.push_back(
        {"guest memory", hex(h.layout.pages * kPageSize),
         fmt::format(
             "the header counts {} page frames, and the bitmap names pages behind them, which are not "
             "seen",
             h.layout.pages)});
  if (h.layout.first_pfn != 0 || h.layout.last_pfn < h.layout.pages)
    dump.gaps.push_back(
        {"guest memory", hex(h.layout.first_pfn * kPageSize),
         fmt::format("the file is one of a dump that was split: it has the page frames {} to {} of {}; "
                     "`makedumpfile --reassemble` makes one file of them",
                     h.layout.first_pfn, std::min(h.layout.last_pfn, h.layout.pages), h.layout.pages)});
  if (const u64 lost = source->lost(); lost != 0)
    dump.gaps.push_back(
        {"guest memory", "",
         fmt::format("the file is truncated: at least {} of {} pages are missing", lost, source->stored())});
  else if (cut)
    dump.gaps.push_back({"guest memory", "", "the file is truncated: its end mark is missing"});
  if (notes.cpus.empty())
    dump.gaps.push_back({"CPU registers", "", "the file holds no CPU notes"});
  else if (!notes.cpus[0].long_mode())
    dump.gaps.push_back({"CPU 0", "", "was not in long mode when the dump was taken"});
  dump.description = fmt::format("kdump-compressed{} ({}){}, {} CPU notes, {} pages",
                                 flattened ? ", flattened" : "", name(static_cast<PageCodec>(h.compression)),
                                 notes.qemu ? " written by QEMU" : "", notes.cpus.size(), source->stored());
  dump.physical = std::move(source);
  dump.cpus = std::move(notes.cpus);
  dump.header = std::move(notes.header);
  dump.other_system = std::move(notes.other_system);
  return dump;
}

}  // namespace

extern const Format kdump_format;
const Format kdump_format{.name = "kdump", .order = 15, .probe = probe, .open = open};

}  // namespace unhang::dump
