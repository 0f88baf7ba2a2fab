// Kernel triage dumps (type 4, "minidumps" in C:\Windows\Minidump): blocks of kernel virtual memory, no page
// tables, no physical memory. Every layer above address translation works on them.
//
// TRIAGE_DUMP64 follows the 8 KiB header. The offsets below were checked on a real 19041 dump: the block
// list, the debugger data ("KDBG" stands there), the call stack and the driver list lie where they say.
#include <algorithm>

#include "base/format.h"
#include "dump/dump_file.h"
#include "dump/windows_header.h"

namespace unhang::dump {

namespace {

constexpr const char* kType = "Windows triage dump";
constexpr u64 kBase = kHeader64Size;

std::unexpected<Error> bad(const char* detail, u64 offset = 0) {
  return fail(Error{.why = Why::bad_file, .offset = offset, .type = kType, .detail = detail});
}

bool probe(const File& file) {
  return file.bytes().starts_with("PAGEDU64") && file.bytes().at<u32>(0xF98) == kTriage;
}

// DUMP_STRING: u32 count of UTF-16 units, then the units. Module names are ASCII in practice; the rest
// becomes '?'.
std::string dump_string(ByteView file, u64 offset) {
  const u32 length = file.at<u32>(offset);
  const auto units = file.sub(offset + 4, u64{length} * 2);
  if (length > 512 || !units) return {};
  std::string s;
  for (u32 i = 0; i < length; i++) {
    const u16 c = units->at<u16>(i * 2ULL);
    s += c >= 0x20 && c < 0x7f ? static_cast<char>(c) : '?';
  }
  return s;
}

std::string base_name(const std::string& path) {
  return path.substr(path.find_last_of('\\') + 1);
}

// DUMP_DRIVER_ENTRY64: u32 offset of the name, padding, then a KLDR_DATA_TABLE_ENTRY.
std::vector<ListedModule> read_drivers(ByteView b, u64 at, u32 count) {
  constexpr u64 kEntry = 0x90;
  std::vector<ListedModule> out;
  for (u32 i = 0; i < count && i < 4096; i++) {
    const auto e = b.sub(at + i * kEntry, kEntry);
    if (!e) break;
    out.push_back({.name = base_name(dump_string(b, e->at<u32>(0))),
                   .base = VirtAddr(e->at<u64>(0x38)),
                   .size = e->at<u32>(0x48),
                   .time_stamp = e->at<u32>(0x88),
                   .checksum = e->at<u32>(0x80)});
  }
  return out;
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions&) {
  const ByteView b = file->bytes();
  DumpFile dump;
  dump.header = TRY(read_windows_header(b));
  if (dump.header->machine != kMachineAmd64)
    return fail(Error{.why = Why::unsupported,
                      .offset = 0x30,
                      .type = kType,
                      .detail = dump.header->machine == kMachineArm64
                                    ? "unsupported machine ARM64: only x64 Windows guests are supported"
                                    : "unsupported machine"});
  if (!b.covers(kBase, 0x80)) return bad("truncated inside the triage header", kBase);
  const auto field = [&](u64 at) { return b.at<u32>(kBase + at); };
  if (!b.from(field(0x08)).starts_with("TRGD"))
    dump.gaps.push_back(
        {"triage dump", hex(field(0x08)), "its end mark TRGD is missing: truncated or damaged"});

  const u64 list = field(0x78), count = field(0x7C);
  if (!b.covers(list, 0) || count > (b.size() - list) / 16)
    return bad("the block list is larger than the file", kBase + 0x78);
  std::vector<MappedSource<VirtAddr>::Run> blocks;
  for (u64 i = 0; i < count; i++) {
    const u64 at = list + i * 16;
    blocks.push_back({VirtAddr(b.at<u64>(at)), b.at<u32>(at + 12), b.at<u32>(at + 8)});
  }
  // The faulting thread's stack, and copies of its KPRCB's current thread, which need not be among the
  // blocks.
  blocks.push_back({VirtAddr(b.at<u64>(kBase + 0x48)), field(0x2C), field(0x28)});
  TriageParts parts;
  if (const u64 prcb = field(0x1C); b.covers(prcb, 0x10)) {
    parts.current_thread = VirtAddr(b.at<u64>(prcb + 8));  // KPRCB.CurrentThread, +8 on every x64 build
    const u64 thread = field(0x24), stack = field(0x28);
    if (thread != 0 && stack > thread) blocks.push_back({parts.current_thread, stack - thread, thread});
  }
  auto source = std::make_unique<MappedSource<VirtAddr>>(file, std::move(blocks));
  if (source->ranges().empty()) return bad("it holds no memory blocks");
  if (source->lost() != 0)
    dump.gaps.push_back(
        {"guest memory", "",
         fmt::format("the file is truncated: {} bytes of its blocks are missing", source->lost())});

  parts.modules = read_drivers(b, field(0x30), field(0x34));
  if (const u32 at = field(0x40); at != 0) parts.broken_driver = dump_string(b, at);
  if (const auto kdbg = b.sub(field(0x70), field(0x74)); kdbg && kdbg->size() <= kPageSize)
    dump.kdbg.assign(kdbg->span().begin(), kdbg->span().end());
  dump.description =
      fmt::format("Windows triage dump (type 4), {} blocks of kernel virtual memory, {} modules listed",
                  count, parts.modules.size());
  dump.triage = std::move(parts);
  dump.virtual_blocks = std::move(source);
  dump.gaps.push_back({"physical memory", "", "a triage dump holds selected kernel virtual memory only"});
  return dump;
}

}  // namespace

extern const Format triage_format;
const Format triage_format{.name = "windows-triage", .order = 20, .probe = probe, .open = open};

}  // namespace unhang::dump
