// Windows crash dumps that hold physical memory: type 1 (complete), 5 and 6 (bitmap) (FORMATS 3.1-3.3).
// Written by Windows itself (MEMORY.DMP, LiveKernelReports), by QEMU (win-dmp) and by elf2dmp.
#include <mutex>

#include "base/format.h"
#include "dump/dump_file.h"
#include "dump/page_bitmap.h"
#include "dump/windows_header.h"

namespace unhang::dump {

namespace {

constexpr const char* kType = "Windows crash dump";

std::unexpected<Error> bad(const char* detail, u64 offset = 0) {
  return fail(Error{.why = Why::bad_file, .offset = offset, .type = kType, .detail = detail});
}

bool probe(const File& file) {
  // Triage dumps (type 4) hold no physical memory: triage.cc.
  return file.bytes().starts_with("PAGEDU64") && file.bytes().at<u32>(0xF98) != kTriage;
}

// Pages of a bitmap dump lie packed from FirstPage on, in the order of their set bits.
class BitmapSource final : public PageSource<PhysAddr> {
 public:
  BitmapSource(std::shared_ptr<const File> file, PageBitmap bitmap, u64 first_page)
      : file_(std::move(file)), bitmap_(std::move(bitmap)), first_page_(first_page) {}

  Result<Slice> at(PhysAddr pa) const override {
    const auto offset = file_offset(pa);
    if (!offset) return fail(Error{.why = Why::not_in_dump, .pa = pa});
    if (*offset >= file_->size())
      return fail(Error{.why = Why::not_in_dump, .pa = pa, .detail = "the dump file is truncated before it"});
    return Slice{file_->bytes().data() + *offset, std::min(pa.left_in_page(), file_->size() - *offset), {}};
  }
  std::span<const PhysRange> ranges() const override {
    std::call_once(once_, [this] { ranges_ = bitmap_.ranges(); });
    return ranges_;
  }
  std::optional<u64> file_offset(PhysAddr pa) const override {
    const u64 pfn = pa.value() >> kPageShift;
    if (!bitmap_.test(pfn)) return std::nullopt;
    return first_page_ + (bitmap_.rank(pfn) << kPageShift) + pa.page_offset();
  }

 private:
  std::shared_ptr<const File> file_;
  PageBitmap bitmap_;
  u64 first_page_;
  mutable std::once_flag once_;
  mutable std::vector<PhysRange> ranges_;
};

Result<void> open_full(DumpFile& dump, const std::shared_ptr<const File>& file) {
  const auto& runs = dump.header->physical_memory;
  const u64 stated = file->bytes().at<u64>(0x90);
  if (runs.empty()) return bad("the run table is damaged", 0x88);
  std::vector<MappedSource<PhysAddr>::Run> mapped;
  u64 offset = kHeader64Size, pages = 0;
  PhysAddr end{};
  for (const PhysRange& run : runs) {
    if (run.start < end) return bad("the runs of the run table overlap", 0x88);
    end = run.end();
    mapped.push_back({run.start, run.size, offset});
    offset += run.size;
    pages += run.size >> kPageShift;
  }
  if (pages != stated) return bad("the run table contradicts its own page count", 0x88);
  auto source = std::make_unique<MappedSource<PhysAddr>>(file, std::move(mapped));
  if (source->ranges().empty()) return bad("truncated before any memory");
  if (source->lost() != 0)
    dump.gaps.push_back({"guest memory", "",
                         fmt::format("the file is truncated: {} of {} bytes of memory are missing", source->lost(),
                                     pages << kPageShift)});
  dump.physical = std::move(source);
  return {};
}

Result<void> open_bitmap(DumpFile& dump, const std::shared_ptr<const File>& file) {
  const ByteView h = file->bytes().from(kHeader64Size);
  if (h.size() < 0x38) return bad("truncated inside the bitmap header", kHeader64Size);
  if ((!h.starts_with("SDMP") && !h.starts_with("FDMP")) || !h.from(4).starts_with("DUMP"))
    return bad("no bitmap header where one must be", kHeader64Size);
  const u64 first_page = h.at<u64>(0x20), present = h.at<u64>(0x28), bits = h.at<u64>(0x30);
  const u64 bytes = bits / 8 + (bits % 8 != 0 ? 1 : 0);
  const u64 end = kHeader64Size + 0x38 + bytes;
  if (!h.covers(0x38, bytes) || end > first_page) return bad("the bitmap is larger than its place", kHeader64Size + 0x30);
  if (first_page >= file->size()) return bad("truncated before any memory");
  PageBitmap bitmap(*h.sub(0x38, bytes), bits);
  if (bitmap.total() == 0) return bad("the bitmap names no page");
  const u64 stored = (file->size() - first_page) >> kPageShift;
  if (bitmap.total() != present)
    dump.gaps.push_back({"guest memory", "",
                         fmt::format("the header counts {} pages, the bitmap {}", present, bitmap.total())});
  if (stored < bitmap.total())
    dump.gaps.push_back({"guest memory", "",
                         fmt::format("the file is truncated: {} of {} pages are missing", bitmap.total() - stored,
                                     bitmap.total())});
  dump.physical = std::make_unique<BitmapSource>(file, std::move(bitmap), first_page);
  return {};
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions&) {
  DumpFile dump;
  dump.header = TRY(read_windows_header(file->bytes()));
  if (dump.header->machine == kMachineArm64)
    return fail(Error{.why = Why::unsupported,
                      .type = kType,
                      .detail = "unsupported machine ARM64: only x64 Windows guests are supported"});
  if (dump.header->machine != kMachineAmd64)
    return fail(Error{.why = Why::unsupported, .offset = 0x30, .type = kType, .detail = "unsupported machine"});
  const u32 type = dump.header->dump_type;
  switch (type) {
    case kFull: TRY_VOID(open_full(dump, file)); break;
    case kBitmapFull:
    case kBitmapKernel: TRY_VOID(open_bitmap(dump, file)); break;
    case kHeaderOnly:
      return fail(Error{.why = Why::unsupported, .type = kType, .detail = "type 3 holds a header only, no memory"});
    default:
      return fail(Error{.why = Why::unsupported, .offset = 0xF98, .type = kType, .detail = "unknown dump type"});
  }
  dump.description = fmt::format("Windows crash dump type {} ({}), {} processors", type,
                                 type == kFull ? "complete" : type == kBitmapFull ? "bitmap, complete" : "bitmap, kernel",
                                 dump.header->processors);
  return dump;
}

}  // namespace

extern const Format crash_dump_format;
const Format crash_dump_format{.name = "windows-crash-dump", .order = 20, .probe = probe, .open = open};

}  // namespace unhang::dump
