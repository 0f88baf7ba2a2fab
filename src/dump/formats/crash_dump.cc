// Windows crash dumps that hold physical memory: type 1 (complete), 2, 5 and 6 (bitmap), 8, 9 and 10 (ranges)
// (FORMATS 3.1-3.3). Written by Windows itself (MEMORY.DMP, LiveKernelReports), by QEMU (win-dmp), by
// elf2dmp, and the ranges by WinDbg's .dump. Of types 2, 8, 9 and 10 no real file was at hand: the public
// descriptions are followed and `info` says so.
#include <algorithm>
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
  const File* backing() const override { return file_.get(); }
  // Pages of one run of set bits are packed one behind the other.
  u64 contiguous(PhysAddr pa) const override {
    const auto all = ranges();
    auto it = std::upper_bound(all.begin(), all.end(), pa,
                               [](PhysAddr a, const PhysRange& r) { return a < r.start; });
    if (it == all.begin() || pa >= (--it)->end()) return 0;
    const u64 offset = *file_offset(pa);
    return offset >= file_->size() ? 0 : std::min(it->end() - pa, file_->size() - offset);
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
  for (const PhysRange& run : runs) {
    mapped.push_back({run.start, run.size, offset});
    offset += run.size;
    pages += run.size >> kPageShift;
  }
  // Pages lie in the file in the order of the table, whatever that is.
  std::vector<PhysRange> sorted = runs;
  std::ranges::sort(sorted, {}, &PhysRange::start);
  for (size_t i = 1; i < sorted.size(); i++)
    if (sorted[i].start < sorted[i - 1].end()) return bad("the runs of the run table overlap", 0x88);
  if (pages != stated)
    dump.gaps.push_back(
        {"guest memory", hex(0x90), fmt::format("the run table has {} pages, and counts {}", pages, stated)});
  auto source = std::make_unique<MappedSource<PhysAddr>>(file, std::move(mapped));
  if (source->ranges().empty()) return bad("truncated before any memory");
  if (source->lost() != 0)
    dump.gaps.push_back({"guest memory", "",
                         fmt::format("the file is truncated: {} of {} bytes of memory are missing",
                                     source->lost(), pages << kPageShift)});
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
  if (!h.covers(0x38, bytes) || end > first_page)
    return bad("the bitmap is larger than its place", kHeader64Size + 0x30);
  if (first_page >= file->size()) return bad("truncated before any memory");
  PageBitmap bitmap(*h.sub(0x38, bytes), bits);
  if (bitmap.total() == 0) return bad("the bitmap names no page");
  const u64 stored = (file->size() - first_page) >> kPageShift;
  if (bitmap.total() != present)
    dump.gaps.push_back({"guest memory", "",
                         fmt::format("the header counts {} pages, the bitmap {}", present, bitmap.total())});
  if (stored < bitmap.total())
    dump.gaps.push_back({"guest memory", "",
                         fmt::format("the file is truncated: {} of {} pages are missing",
                                     bitmap.total() - stored, bitmap.total())});
  dump.physical = std::make_unique<BitmapSource>(file, std::move(bitmap), first_page);
  return {};
}

// A list of {first page, pages}, then the pages, packed.
Result<void> open_ranges(DumpFile& dump, const std::shared_ptr<const File>& file) {
  const ByteView h = file->bytes().from(kHeader64Size);
  if (h.size() < 0x30) return bad("truncated inside the range header", kHeader64Size);
  if (!h.from(4).starts_with("RDMP") || !h.from(8).starts_with("DUMP"))
    return bad("no range header where one must be", kHeader64Size);
  const u64 first_page = h.at<u64>(0x18);
  if (first_page >= file->size()) return bad("truncated before any memory");
  if (first_page < kHeader64Size + 0x30)
    return bad("its pages begin inside of its header", kHeader64Size + 0x18);
  // Type 10 counts its pages; the others end with their place or with a page number 0.
  const u64 most = dump.header->dump_type == kComplete ? h.at<u64>(0x28) : ~u64{0};
  std::vector<MappedSource<PhysAddr>::Run> runs;
  u64 offset = first_page, pages = 0;
  for (u64 at = kHeader64Size + 0x30; at + 16 <= first_page && pages < most; at += 16) {
    const u64 pfn = file->bytes().at<u64>(at), count = file->bytes().at<u64>(at + 8);
    if (pfn == 0) break;
    if (pfn >> 40 != 0 || count >> 40 != 0 || count == 0) return bad("a range cannot be", at);
    runs.push_back({Pfn{pfn}.address(), count << kPageShift, offset});
    offset += count << kPageShift;
    pages += count;
  }
  if (runs.empty()) return bad("the list of ranges is empty", kHeader64Size + 0x30);
  if (most != ~u64{0} && pages != most)
    dump.gaps.push_back(
        {"guest memory", "", fmt::format("the header counts {} pages, its ranges {}", most, pages)});
  auto sorted = runs;
  std::ranges::sort(sorted, {}, [](const auto& r) { return r.start; });
  for (size_t i = 1; i < sorted.size(); i++)
    if (sorted[i].start < sorted[i - 1].start + sorted[i - 1].size)
      return bad("its ranges overlap", kHeader64Size + 0x30);
  auto source = std::make_unique<MappedSource<PhysAddr>>(file, std::move(runs));
  if (source->ranges().empty()) return bad("truncated before any memory");
  if (source->lost() != 0)
    dump.gaps.push_back(
        {"guest memory", "",
         fmt::format("the file is truncated: {} bytes of memory are missing", source->lost())});
  dump.physical = std::move(source);
  return {};
}

const char* type_name(u32 type) {
  switch (type) {
    case kFull:
      return "complete";
    case kKernelSummary:
      return "kernel, not checked against a real file";
    case kBitmapFull:
      return "bitmap, complete";
    case kBitmapKernel:
      return "bitmap, kernel";
    case kKernelMemory:
      return "ranges, kernel, not checked against a real file";
    case kKernelAndUser:
      return "ranges, kernel and user, not checked against a real file";
    default:
      return "ranges, complete, not checked against a real file";
  }
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions&) {
  DumpFile dump;
  dump.header = TRY(read_windows_header(file->bytes()));
  if (dump.header->machine == kMachineArm64)
    return fail(Error{.why = Why::unsupported,
                      .type = kType,
                      .detail = "unsupported machine ARM64: only x64 Windows guests are supported"});
  if (dump.header->machine != kMachineAmd64)
    return fail(
        Error{.why = Why::unsupported, .offset = 0x30, .type = kType, .detail = "unsupported machine"});
  const u32 type = dump.header->dump_type;
  switch (type) {
    case kFull:
      TRY_VOID(open_full(dump, file));
      break;
    case kKernelSummary:
    case kBitmapFull:
    case kBitmapKernel:
      TRY_VOID(open_bitmap(dump, file));
      break;
    case kKernelMemory:
    case kKernelAndUser:
    case kComplete:
      TRY_VOID(open_ranges(dump, file));
      break;
    case kHeaderOnly:
      return fail(
          Error{.why = Why::unsupported, .type = kType, .detail = "type 3 holds a header only, no memory"});
    default:
      return fail(
          Error{.why = Why::unsupported, .offset = 0xF98, .type = kType, .detail = "unknown dump type"});
  }
  dump.description = fmt::format("Windows crash dump type {} ({}), {}", type, type_name(type),
                                 counted(dump.header->processors, "processor", "processors"));
  return dump;
}

}  // namespace

extern const Format crash_dump_format;
const Format crash_dump_format{.name = "windows-crash-dump", .order = 20, .probe = probe, .open = open};

}  // namespace unhang::dump
