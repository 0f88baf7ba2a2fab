// ELF cores that QEMU's dump-guest-memory writes: `virsh dump --memory-only`, KubeVirt, Proxmox, Incus
// (FORMATS 1.1, 1.2).
//
// Folklore handled here:
// - QEMU up to 7.1 puts program headers at 64, since 7.2 at 192 behind two section headers; 7.2 writes
//   e_ehsize 8. Nothing of the kind is checked, only e_phoff, e_phentsize and e_phnum are used.
// - With 65535 or more segments e_phnum is PN_XNUM and the count lies in sh_info of section 0.
// - A guest whose CPU 0 is not in long mode gives e_machine 386 in a 64-bit file.
// - p_offset is not page-aligned, p_paddr need not be; paging=on writes a page once per virtual mapping and
//   segments with p_filesz 0 and p_offset -1.
// - VirtualBox writes its own notes, and segments with p_filesz 0 for MMIO (dump/virtualbox_note.cc).
#include <algorithm>

#include "base/format.h"
#include "dump/dump_file.h"
#include "dump/note.h"

namespace unhang::dump {

namespace {

constexpr u16 kMachine386 = 3, kMachineX86_64 = 62, kMachineAarch64 = 183;
constexpr u16 kTypeCore = 4;
constexpr u16 kPnXnum = 0xffff;
constexpr u32 kPtLoad = 1, kPtNote = 4;
constexpr u64 kPhdrSize = 56;

bool probe(const File& file) {
  return file.bytes().starts_with(
      "\x7f"
      "ELF");
}

std::unexpected<Error> bad(const char* detail, u64 offset = 0) {
  return fail(Error{.why = Why::bad_file, .offset = offset, .type = "ELF core", .detail = detail});
}

struct Layout {
  u64 phoff = 0;
  u64 phnum = 0;
  u16 machine = 0;
};

Result<Layout> read_header(ByteView b) {
  if (b.size() < 64) return bad("truncated inside the ELF header");
  if (b.at<u8>(4) != 2)
    return fail(Error{.why = Why::unsupported, .type = "ELF core", .detail = "a 32-bit core (x86 guest)"});
  if (b.at<u8>(5) != 1)
    return fail(Error{.why = Why::unsupported, .type = "ELF core", .detail = "a big-endian core"});
  Layout l{.phoff = b.at<u64>(32), .phnum = b.at<u16>(56), .machine = b.at<u16>(18)};
  if (l.machine == kMachineAarch64)
    return fail(Error{.why = Why::unsupported,
                      .type = "ELF core",
                      .detail = "unsupported machine ARM64: only x64 Windows guests are supported"});
  if (l.machine != kMachineX86_64 && l.machine != kMachine386)
    return fail(Error{.why = Why::unsupported, .type = "ELF core", .detail = "unsupported machine"});
  if (b.at<u16>(16) != kTypeCore) return bad("an ELF file, but not a core");
  if (b.at<u16>(54) != kPhdrSize) return bad("program headers of an unexpected size");
  if (l.phnum == kPnXnum) {
    const u64 shoff = b.at<u64>(40);
    const auto count = b.le<u32>(shoff + 44);
    if (shoff == 0 || shoff > b.size() || !count) return bad("section 0 with the segment count is missing");
    l.phnum = *count;
  }
  if (l.phnum == 0) return bad("no program headers");
  const auto bytes = checked_mul(l.phnum, kPhdrSize);
  if (!bytes || !b.covers(l.phoff, *bytes)) return bad("truncated inside the program headers");
  return l;
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions&) {
  const ByteView b = file->bytes();
  const Layout l = TRY(read_header(b));
  std::vector<MappedSource<PhysAddr>::Run> runs;
  Notes notes;
  u64 first_memory = ~u64{0};
  bool notes_cut = false;
  u64 impossible = 0;
  for (u64 i = 0; i < l.phnum; i++) {
    const u64 at = l.phoff + i * kPhdrSize;
    const u32 type = b.at<u32>(at);
    const u64 offset = b.at<u64>(at + 8), paddr = b.at<u64>(at + 24), filesz = b.at<u64>(at + 32);
    if (type == kPtNote) {
      const u64 there = offset >= b.size() ? 0 : std::min(filesz, b.size() - offset);
      notes_cut = there < filesz;
      notes = read_notes(b.from(offset).sub(0, there).value_or(ByteView()), l.machine);
    } else if (type == kPtLoad && filesz != 0 && paddr + filesz < paddr) {
      impossible++;
    } else if (type == kPtLoad && filesz != 0) {
      runs.push_back({PhysAddr(paddr), filesz, offset});
      first_memory = std::min(first_memory, offset);
    }
  }
  if (notes_cut && first_memory >= b.size()) return bad("truncated inside the notes, before any memory");
  if (runs.empty()) return bad("no memory segments");
  auto source = std::make_unique<MappedSource<PhysAddr>>(file, std::move(runs));
  if (source->ranges().empty()) return bad("truncated before any memory");

  DumpFile dump;
  dump.gaps = std::move(notes.gaps);
  if (notes_cut) dump.gaps.push_back({"CPU notes", "", "the file is truncated inside them"});
  if (source->lost() != 0)
    dump.gaps.push_back(
        {"guest memory", "",
         fmt::format("the file is truncated: {} bytes of its segments are missing", source->lost())});
  if (impossible != 0)
    dump.gaps.push_back({"guest memory", "",
                         fmt::format("{} that would end beyond all addresses: left out",
                                     counted(impossible, "segment", "segments"))});
  if (notes.cpus.empty()) dump.gaps.push_back({"CPU registers", "", "the file holds no CPU notes"});
  if (l.machine == kMachine386)
    dump.gaps.push_back({"CPU 0", "", "was not in long mode when the dump was taken (e_machine 386)"});
  dump.description =
      fmt::format("ELF core{}, {}, {}",
                  notes.qemu         ? " written by QEMU"
                  : notes.virtualbox ? " written by VirtualBox, not checked against a real file"
                                     : "",
                  counted(notes.cpus.size(), "CPU note", "CPU notes"),
                  counted(source->ranges().size(), "memory range", "memory ranges"));
  dump.physical = std::move(source);
  dump.cpus = std::move(notes.cpus);
  dump.header = std::move(notes.header);
  dump.other_system = std::move(notes.other_system);
  return dump;
}

}  // namespace

extern const Format elf_core_format;
const Format elf_core_format{.name = "elf-core", .order = 10, .probe = probe, .open = open};

}  // namespace unhang::dump
