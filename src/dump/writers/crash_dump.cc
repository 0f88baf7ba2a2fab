// DUMP_HEADER64 and the two ways to lay out pages behind it. Field by field: FORMATS 3.1, 3.3.
#include <algorithm>
#include <cstring>

#include "base/format.h"
#include "dump/windows_header.h"
#include "dump/writers/writers.h"

namespace unhang::dump {

namespace {

constexpr size_t kMostRuns = 42;     // (700 - 16) / 16 of the header's buffer
constexpr u64 kBitmapHeader = 0x38;  // BMP_HEADER64 without its bitmap
constexpr u32 kKdSecondaryVersionContext =
    2;  // CONTEXT as it is since Vista; 0 makes WinDbg read another form

class Bytes {
 public:
  // Windows fills what it does not set with "PAGE".
  explicit Bytes(size_t size) : bytes_(size) {
    for (size_t i = 0; i < size; i++) bytes_[i] = static_cast<u8>("PAGE"[i % 4]);
  }
  template <class T>
  void put(size_t at, T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void zero(size_t at, size_t size) { std::memset(bytes_.data() + at, 0, size); }
  void copy(size_t at, std::span<const u8> from) {
    std::copy(from.begin(), from.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(at));
  }
  std::span<const u8> span() const { return bytes_; }

 private:
  std::vector<u8> bytes_;
};

u64 pages_of(std::span<const PhysRange> ranges) {
  u64 pages = 0;
  for (const PhysRange& r : ranges) pages += r.size >> kPageShift;
  return pages;
}

void put_runs(Bytes& h, std::span<const PhysRange> runs) {
  if (runs.empty() || runs.size() > kMostRuns) return;  // stays "PAGE": not said
  h.put<u32>(0x88, static_cast<u32>(runs.size()));
  h.put<u32>(0x8C, 0);
  h.put<u64>(0x90, pages_of(runs));
  for (size_t i = 0; i < runs.size(); i++) {
    h.put<u64>(0x98 + i * 16, runs[i].start.value() >> kPageShift);
    h.put<u64>(0xA0 + i * 16, runs[i].size >> kPageShift);
  }
}

Bytes header_bytes(const CrashHeader& c, CrashType type, std::span<const PhysRange> runs, u64 file_size) {
  Bytes h(kHeader64Size);
  h.copy(0, std::span(reinterpret_cast<const u8*>("PAGEDU64"), 8));
  h.put<u32>(0x08, 0xF);  // free build
  h.put<u32>(0x0C, c.build);
  h.put(0x10, c.directory_table_base.value());
  h.put(0x18, c.pfn_database.value());
  h.put(0x20, c.ps_loaded_module_list.value());
  h.put(0x28, c.ps_active_process_head.value());
  h.put<u32>(0x30, kMachineAmd64);
  h.put<u32>(0x34, c.processors);
  h.put<u32>(0x38, c.bug_check_code);
  for (size_t i = 0; i < 4; i++) h.put(0x40 + i * 8, c.bug_check_parameters[i]);
  h.zero(0x60, 32);  // VersionUser
  h.put(0x80, c.kd_debugger_data_block.value());
  put_runs(h, runs);
  if (!c.context.empty()) {
    h.zero(0x348, 3000);
    h.copy(0x348, std::span(c.context).first(std::min<size_t>(c.context.size(), 3000)));
  }
  h.zero(0xF00, 0x98);  // EXCEPTION_RECORD64
  h.put<u32>(0xF00, c.exception_code);
  h.put(0xF10, c.exception_address.value());
  h.put<u32>(0xF98, static_cast<u32>(type));
  h.put<u64>(0xFA0, file_size);  // RequiredDumpSpace: WinDbg takes another value for truncation
  h.put(0xFA8, c.system_time);
  h.zero(0xFB0, 128);  // Comment
  const std::string_view comment = "written by unhang";
  h.copy(0xFB0, std::span(reinterpret_cast<const u8*>(comment.data()), comment.size()));
  h.put(0x1030, c.up_time);
  h.put<u32>(0x1038, 0);  // MiniDumpFields
  h.put<u32>(0x103C, 0);  // SecondaryDataState
  h.put<u32>(0x1040, c.product_type);
  h.put<u32>(0x1044, c.suite_mask);
  h.put<u32>(0x1048, 0);  // WriterStatus
  h.put<u8>(0x104C, 0);
  h.put<u8>(0x104D, kKdSecondaryVersionContext);
  h.put<u32>(0x1050, 0);  // Attributes
  h.put<u32>(0x1054, 0);  // BootId
  return h;
}

std::vector<u8> bitmap_header(std::span<const PhysRange> ranges, u64 first_page, u64 bits) {
  std::vector<u8> b(kBitmapHeader);
  auto put = [&](size_t at, auto value) { std::memcpy(b.data() + at, &value, sizeof value); };
  std::memcpy(b.data(), "FDMPDUMP", 8);
  put(0x20, first_page);
  put(0x28, pages_of(ranges));
  put(0x30, bits);
  return b;
}

// One bit a page up to the last one, LSB first. Written in pieces: where no page is, the file stays a hole.
Result<void> write_bitmap(OutputFile& out, u64 at, std::span<const PhysRange> ranges) {
  constexpr u64 kPiece = 64 << 10, kPagesOfPiece = kPiece * 8;
  std::vector<u8> piece(kPiece);
  u64 number = 0, used = 0;  // bytes of the piece that are set
  const auto flush = [&]() -> Result<void> {
    if (used != 0) TRY_VOID(out.write(at + number * kPiece, std::span(piece).first(used)));
    std::fill(piece.begin(), piece.end(), u8{0});
    used = 0;
    return {};
  };
  for (const PhysRange& r : ranges)
    for (u64 p = r.start.value() >> kPageShift, end = r.end().value() >> kPageShift; p < end;) {
      if (p / kPagesOfPiece != number) {
        TRY_VOID(flush());
        number = p / kPagesOfPiece;
      }
      const u64 bit = p % kPagesOfPiece, left = std::min(end - p, kPagesOfPiece - bit);
      if (bit % 8 == 0 && left >= 8) {
        std::memset(piece.data() + bit / 8, 0xFF, left / 8);
        p += left / 8 * 8;
        used = bit / 8 + left / 8;
      } else {
        piece[bit / 8] = static_cast<u8>(piece[bit / 8] | 1U << (bit % 8));
        used = bit / 8 + 1;
        p++;
      }
    }
  return flush();
}

}  // namespace

Result<Written> write_crash_dump(const std::string& path, const PageSource<PhysAddr>& source,
                                 std::span<const PhysRange> ranges, const CrashHeader& header,
                                 std::span<const Patch> patches, CrashType type, const Progress& progress) {
  if (ranges.empty()) return fail(Error{.why = Why::unsupported, .detail = "there is no memory to write"});
  if (type == CrashType::automatic)
    type = ranges.size() <= kMostRuns ? CrashType::complete : CrashType::bitmap;
  if (type == CrashType::complete && ranges.size() > kMostRuns)
    return fail(Error{.why = Why::unsupported,
                      .detail = "more than 42 runs of memory do not fit a complete dump: --to bitmap"});
  const u64 pages = pages_of(ranges);
  if (ranges.back().end() > kEndOfMemory) return fail(beyond_memory());
  u64 first_page = kHeader64Size;
  const u64 bits = ranges.back().end().value() >> kPageShift;
  if (type == CrashType::bitmap)
    first_page = (kHeader64Size + kBitmapHeader + (bits + 7) / 8 + kPageSize - 1) & ~(kPageSize - 1);
  const u64 file_size = first_page + (pages << kPageShift);
  std::vector<Placed> placed;
  u64 offset = first_page;
  for (const PhysRange& r : ranges) {
    placed.push_back({r, offset});
    offset += r.size;
  }
  // A complete dump's runs are its pages; a bitmap dump says in its runs where RAM is.
  const bool said = type == CrashType::bitmap && !header.physical_memory.empty();
  const Bytes h = header_bytes(header, type,
                               said ? std::span<const PhysRange>(header.physical_memory) : ranges, file_size);

  OutputFile out = TRY(OutputFile::create(path));
  TRY_VOID(out.set_size(file_size));
  TRY_VOID(out.write(0, h.span()));
  if (type == CrashType::bitmap) {
    TRY_VOID(out.write(kHeader64Size, bitmap_header(ranges, first_page, bits)));
    TRY_VOID(write_bitmap(out, kHeader64Size + kBitmapHeader, ranges));
  }
  // By itself: a TRY that returns from inside of an initializer leaks what was made before it (GCC 12).
  const Copied copied = TRY(copy_memory(source, placed, patches, out, progress));
  Written w{.what = fmt::format("Windows crash dump, type {} ({})", static_cast<u32>(type),
                                type == CrashType::bitmap ? "bitmap" : "complete"),
            .file_size = file_size,
            .pages = pages,
            .copied = copied};
  TRY_VOID(out.commit());
  return w;
}

}  // namespace unhang::dump
