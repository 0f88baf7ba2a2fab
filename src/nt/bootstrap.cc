#include "nt/bootstrap.h"

#include <algorithm>
#include <set>

#include "base/ascii.h"
#include "base/bytes.h"
#include "base/format.h"
#include "memory/read.h"
#include "nt/kdbg.h"
#include "nt/member.h"

namespace unhang::nt {

namespace {

using memory::AddressSpace;
using memory::PagingRules;

constexpr u64 kFrameMask = 0x000f'ffff'ffff'f000;

struct Search {
  const dump::DumpFile& dump;
  const dump::PageSource<PhysAddr>& physical;
  PagingRules rules(int levels) const {
    const auto ranges = physical.ranges();
    const PhysAddr end = ranges.empty() ? PhysAddr() : ranges.back().end();
    return {.levels = levels, .end_of_ram = end};
  }
  AddressSpace space(PhysAddr dtb, int levels) const { return AddressSpace(physical, dtb, rules(levels)); }
};

// Version numbers and the system root in KUSER_SHARED_DATA are as Windows has them.
bool has_shared_data(const Source<VirtAddr>& space) {
  const auto major = memory::read<u32>(space, kUserSharedData + 0x26c);
  if (!major || (*major != 6 && *major != 10)) return false;
  const auto root = memory::read<std::array<u16, 3>>(space, kUserSharedData + 0x30);
  return root && (*root)[0] >= 'A' && (*root)[0] <= 'Z' && (*root)[1] == ':' && (*root)[2] == '\\';
}

// The image around an address that `wanted` accepts, searched downwards page by page.
template <class Wanted>
std::optional<VirtAddr> image_below(const Source<VirtAddr>& space, VirtAddr inside, const Wanted& wanted) {
  const VirtAddr top = inside.page();
  for (u64 down = 0; down <= kMostKernelImage && down <= top.value(); down += kPageSize) {
    const VirtAddr base = top - down;
    const auto mz = memory::read<u16>(space, base);
    if (!mz || *mz != 0x5a4d) continue;
    const auto image = image::Image::open(std::make_shared<image::MemoryImage>(space, base));
    if (image && image->size() > inside - base && wanted(*image)) return base;
  }
  return std::nullopt;
}

// Addresses of the handlers in an IDT, the low 32 vectors: all of them lie in nt.
std::vector<VirtAddr> idt_handlers(const Source<VirtAddr>& space, VirtAddr idt) {
  std::vector<VirtAddr> out;
  for (u64 vector = 0; vector < 32; vector++) {
    const auto e = memory::read<std::array<u8, 16>>(space, idt + vector * 16);
    if (!e) continue;
    const ByteView b(e->data(), e->size());
    const u64 address = b.at<u16>(0) | u64{b.at<u16>(6)} << 16 | u64{b.at<u32>(8)} << 32;
    if (is_kernel(VirtAddr(address))) out.emplace_back(address);
  }
  return out;
}

// With KVA shadow a CPU in user mode runs on tables that map little of the kernel.
// KPRCB.KernelDirectoryTableBase holds the real ones; its place differs by build (gs:7000h, later gs:9000h),
// so every aligned value in the KPCR is tried: a page that refers to itself in its upper half is a top-level
// table of Windows.
std::vector<PhysAddr> shadowed_tables(const Search& s, const dump::CpuState& cpu,
                                      const Source<VirtAddr>& shadow) {
  std::vector<PhysAddr> out;
  for (const u64 gs : {cpu.kernel_gs_base.value_or(0), cpu.gs.base}) {
    if (!is_kernel(VirtAddr(gs))) continue;
    for (u64 offset = 0; offset < 0xC000; offset += 8) {
      const auto v = memory::read<u64>(shadow, VirtAddr(gs) + offset);
      if (!v) {
        offset |= 0xff8;  // to the next page
        continue;
      }
      const u64 pa = *v & kFrameMask;
      if (pa == 0 || (*v & 0xff8) != 0 || *v >> 52 != 0) continue;
      bool self = false;
      for (u64 i = 256; i < 512 && !self; i++) {
        const auto e = memory::read<u64>(s.physical, PhysAddr(pa) + i * 8);
        if (!e) break;
        self = (*e & 1) != 0 && (*e & kFrameMask) == pa;
      }
      if (self && std::find(out.begin(), out.end(), PhysAddr(pa)) == out.end()) out.emplace_back(pa);
    }
  }
  return out;
}

std::optional<KernelPlace> from_cpu(const Search& s, size_t index, PhysAddr dtb, std::string dtb_how) {
  const dump::CpuState& cpu = s.dump.cpus[index];
  const AddressSpace space = s.space(dtb, cpu.paging_levels());
  std::set<VirtAddr> tried;
  for (const VirtAddr handler : idt_handlers(space, VirtAddr(cpu.idt.base))) {
    // Handlers stand close together: one try for each 256 KiB.
    if (!tried.insert(VirtAddr(handler.value() >> 18)).second) continue;
    if (const auto base = kernel_base_below(space, handler))
      return KernelPlace{dtb, cpu.paging_levels(), *base, std::move(dtb_how),
                         fmt::format("IDT of CPU {}: the image below its handlers", index)};
    if (tried.size() >= 4) break;
  }
  return std::nullopt;
}

std::optional<KernelPlace> from_cpus(const Search& s) {
  for (const bool user : {false, true})
    for (size_t i = 0; i < s.dump.cpus.size(); i++) {
      const dump::CpuState& cpu = s.dump.cpus[i];
      if (!cpu.long_mode() || cpu.user_mode() != user) continue;
      const PhysAddr cr3(cpu.cr3 & kFrameMask);
      if (auto k = from_cpu(s, i, cr3, fmt::format("CR3 of CPU {}{}", i, user ? " (user mode)" : "")))
        return k;
      const AddressSpace shadow = s.space(cr3, cpu.paging_levels());
      for (const PhysAddr dtb : shadowed_tables(s, cpu, shadow))
        if (auto k = from_cpu(s, i, dtb, fmt::format("KPCR of CPU {}, which runs on shadow tables", i)))
          return k;
    }
  return std::nullopt;
}

// A header names the page tables and two lists inside the kernel image.
std::optional<KernelPlace> from_header(const Search& s) {
  if (!s.dump.header) return std::nullopt;
  const auto& h = *s.dump.header;
  for (const int levels : {4, 5}) {
    const AddressSpace space = s.space(h.directory_table_base, levels);
    for (const VirtAddr inside :
         {h.ps_loaded_module_list, h.ps_active_process_head, h.kd_debugger_data_block}) {
      if (!is_kernel(inside) || !memory::read<u64>(space, inside)) continue;
      if (const auto base = kernel_base_below(space, inside))
        return KernelPlace{h.directory_table_base, levels, *base, "Windows dump header",
                           "Windows dump header: the image around its lists"};
    }
  }
  return std::nullopt;
}

// The page of the kernel's header is missing, or those with its names are: its KDBG says where it begins.
std::optional<KernelPlace> from_kdbg(const Search& s) {
  constexpr size_t kMostTried = 4;  // most processors have the same handlers and much the same tables
  std::set<std::pair<PhysAddr, VirtAddr>> tried;
  for (size_t i = 0; i < s.dump.cpus.size(); i++) {
    const dump::CpuState& cpu = s.dump.cpus[i];
    if (!cpu.long_mode()) continue;
    const PhysAddr dtb(cpu.cr3 & kFrameMask);
    const AddressSpace space = s.space(dtb, cpu.paging_levels());
    const auto handlers = idt_handlers(space, VirtAddr(cpu.idt.base));
    if (handlers.empty() || !tried.insert({dtb, handlers.front()}).second) continue;
    if (tried.size() > kMostTried) break;
    if (const auto base = kernel_base_by_kdbg(space, handlers.front()))
      return KernelPlace{dtb, cpu.paging_levels(), *base, fmt::format("CR3 of CPU {}", i),
                         fmt::format("IDT of CPU {}: the KDBG near its handlers", i)};
  }
  if (!s.dump.header) return std::nullopt;
  const auto& h = *s.dump.header;
  for (const int levels : {4, 5}) {
    const AddressSpace space = s.space(h.directory_table_base, levels);
    if (!memory::read<u64>(space, h.ps_loaded_module_list)) continue;
    if (const auto base = kernel_base_by_kdbg(space, h.ps_loaded_module_list))
      return KernelPlace{h.directory_table_base, levels, *base, "Windows dump header",
                         "Windows dump header: the KDBG near its lists"};
  }
  return std::nullopt;
}

// Every mapped page of the kernel half that begins like an image, in the order of the tables.
std::optional<VirtAddr> base_by_tables(const Search& s, const AddressSpace& space, u64 table, int level,
                                       u64 va) {
  std::array<u64, 512> entries{};
  if (!memory::read_exact(s.physical, PhysAddr(table),
                          {reinterpret_cast<u8*>(entries.data()), sizeof entries}))
    return std::nullopt;
  for (u64 i = 0; i < 512; i++) {
    const u64 e = entries[i];
    if ((e & 1) == 0 || (e & kFrameMask) == (space.dtb().value())) continue;
    const u64 at = va | i << (12 + 9 * (level - 1));
    const bool large = level <= 3 && level > 1 && (e & 0x80) != 0;
    if (level == 3 && large) continue;  // a 1 GiB page holds no image of its own
    if (level > 1 && !large) {
      if (auto base = base_by_tables(s, space, e & kFrameMask, level - 1, at)) return base;
      continue;
    }
    // A large page may hold the image at any of its small pages.
    const u64 pages = large ? 512 : 1;
    for (u64 p = 0; p < pages; p++) {
      const PhysAddr pa((e & kFrameMask & (large ? ~u64{0x1fffff} : ~u64{0})) + p * kPageSize);
      const auto mz = memory::read<u16>(s.physical, pa);
      if (!mz || *mz != 0x5a4d) continue;
      const VirtAddr base(at + p * kPageSize);
      const auto image = image::Image::open(std::make_shared<image::MemoryImage>(space, base));
      if (image && is_kernel_image(*image)) return base;
    }
  }
  return std::nullopt;
}

std::optional<VirtAddr> base_by_tables(const Search& s, const AddressSpace& space) {
  // The kernel lies in 0xfffff800'00000000 .. 0xfffff8ff'ffffffff on every build seen.
  for (const u64 slot : {u64{0x1f0}, u64{0x1f1}}) {
    u64 table = space.dtb().value();
    u64 va = 0xffff'0000'0000'0000;
    if (space.rules().levels == 5) {
      const auto top = memory::read<u64>(s.physical, PhysAddr(table) + 511 * 8);
      if (!top || (*top & 1) == 0) return std::nullopt;
      table = *top & kFrameMask;
    }
    const auto e = memory::read<u64>(s.physical, PhysAddr(table) + slot * 8);
    if (!e || (*e & 1) == 0) continue;
    va |= slot << 39;
    if (auto base = base_by_tables(s, space, *e & kFrameMask, 3, va)) return base;
  }
  return std::nullopt;
}

std::optional<KernelPlace> with_tables(const Search& s, PhysAddr dtb, int levels, std::string how) {
  const AddressSpace space = s.space(dtb, levels);
  if (!has_shared_data(space)) return std::nullopt;
  if (const auto base = base_by_tables(s, space))
    return KernelPlace{dtb, levels, *base, std::move(how), "scan of the mapped kernel memory for the image"};
  return std::nullopt;
}

// The real-mode stub that Windows leaves below 1 MiB to start processors (PROCESSOR_START_BLOCK): a jump at
// +0, a kernel address at +0x70, CR3 at +0xa0. Public from the memory-forensics tools that use it.
std::optional<KernelPlace> from_low_stub(const Search& s) {
  for (u64 pa = 0x1000; pa < 0x100000; pa += kPageSize) {
    const auto b = memory::read<std::array<u8, 0xa8>>(s.physical, PhysAddr(pa));
    if (!b) continue;
    const ByteView v(b->data(), b->size());
    if ((v.at<u64>(0) & 0xffffffff'ffff00ff) != 0x00000001'000600e9) continue;
    const u64 target = v.at<u64>(0x70), cr3 = v.at<u64>(0xa0);
    if ((target & 0xfffff800'00000003) != 0xfffff800'00000000 || (cr3 & 0xffffff00'00000fff) != 0) continue;
    for (const int levels : {4, 5})
      if (auto k = with_tables(s, PhysAddr(cr3), levels, fmt::format("processor start block at {:#x}", pa)))
        return k;
  }
  return std::nullopt;
}

// Any page that maps KUSER_SHARED_DATA where Windows has it and refers to itself. The System process's table
// was made first, so it lies low and the scan is short on a healthy image.
std::optional<KernelPlace> from_scan(const Search& s) {
  constexpr u64 kSharedSlot = 0x1ef;
  for (const dump::PhysRange& range : s.physical.populated())
    for (PhysAddr page = PhysAddr((range.start.value() + kPageSize - 1) & ~(kPageSize - 1));
         page + kPageSize <= range.end(); page += kPageSize) {
      const auto slice = s.physical.at(page);
      if (!slice || slice->size != kPageSize) continue;
      const ByteView b(slice->data, slice->size);
      const bool four = (b.at<u64>(kSharedSlot * 8) & 1) != 0, five = (b.at<u64>(511 * 8) & 1) != 0;
      if (!four && !five) continue;
      bool self = false;
      for (u64 i = 256; i < 512 && !self; i++) {
        const u64 e = b.at<u64>(i * 8);
        self = (e & 1) != 0 && PhysAddr(e & kFrameMask) == page;
      }
      if (!self) continue;
      const std::string how =
          fmt::format("scan of physical memory for page tables, found at {:#x}", page.value());
      if (four)
        if (auto k = with_tables(s, page, 4, how)) return k;
      if (five)
        if (auto k = with_tables(s, page, 5, how)) return k;
    }
  return std::nullopt;
}

// Why there is no x64 kernel, as far as the processors tell; null: they do not.
const char* not_in_long_mode(const dump::DumpFile& dump) {
  constexpr u64 kPaging = u64{1} << 31;
  constexpr u32 kLongSegment = 1 << 21;  // L of a code segment's descriptor, as QEMU keeps it
  bool any_paging = false, any = false;
  for (const dump::CpuState& c : dump.cpus) {
    if (!c.has_control) continue;
    any = true;
    any_paging |= (c.cr0 & kPaging) != 0;
    const bool kernel_code_of_32_bits =
        !c.user_mode() && (c.efer ? !c.long_mode() : c.cs.flags != 0 && (c.cs.flags & kLongSegment) == 0);
    if ((c.cr0 & kPaging) != 0 && kernel_code_of_32_bits)
      return "a 32-bit (x86) guest: only x64 guests are supported";
  }
  return any && !any_paging ? "no processor of the guest has paging on: no system had been started yet"
                            : nullptr;
}

bool mentions_linux(const Search& s) {
  constexpr u64 kMost = u64{512} << 20;
  u64 read = 0;
  for (const dump::PhysRange& range : s.physical.populated())
    for (PhysAddr page = range.start; page < range.end() && read < kMost; page = page.page() + kPageSize) {
      const auto slice = s.physical.at(page);
      if (!slice) continue;
      read += slice->size;
      const std::string_view text(reinterpret_cast<const char*>(slice->data), slice->size);
      if (text.find("Linux version ") != text.npos) return true;
    }
  return false;
}

}  // namespace

bool is_kernel_image(const image::Image& image) {
  const auto named = [](const std::string& s, std::initializer_list<std::string_view> names) {
    return std::ranges::find(names, lower(s)) != names.end();
  };
  if (const auto n = image.export_name(); n && named(*n, {"ntoskrnl.exe", "ntkrnlmp.exe"})) return true;
  const auto id = image.pdb_id();
  return id && named(id->name, {"ntkrnlmp.pdb", "ntoskrnl.pdb"});
}

std::optional<VirtAddr> kernel_base_below(const Source<VirtAddr>& space, VirtAddr inside) {
  return image_below(space, inside, is_kernel_image);
}

std::string foreign_kernel_of(const dump::CpuState& cpu, const Source<PhysAddr>& physical) {
  const AddressSpace space(physical, PhysAddr(cpu.cr3 & kFrameMask), {.levels = cpu.paging_levels()});
  std::string name;
  for (const VirtAddr handler : idt_handlers(space, VirtAddr(cpu.idt.base))) {
    const auto named = [&](const image::Image& image) {
      const auto exported = image.export_name();
      const auto pdb = image.pdb_id();
      if (exported || pdb) name = exported ? *exported : pdb->name;
      return !name.empty();
    };
    if (image_below(space, handler, named)) return name;
  }
  return {};
}

std::optional<VirtAddr> kpcr_of(const dump::CpuState& cpu, const Source<VirtAddr>& kernel) {
  // Around SWAPGS a CPU in kernel mode still has the user's GS: both bases are tried, the likely one first.
  const u64 other = cpu.kernel_gs_base.value_or(0);
  const u64 order[] = {cpu.user_mode() ? other : cpu.gs.base, cpu.user_mode() ? cpu.gs.base : other};
  for (const u64 base : order) {
    const VirtAddr pcr(base);
    if (!is_kernel(pcr)) continue;
    const auto self = memory::read<VirtAddr>(kernel, pcr + 0x18);
    const auto prcb = memory::read<VirtAddr>(kernel, pcr + 0x20);
    if (self && prcb && *self == pcr && *prcb == pcr + 0x180) return pcr;
  }
  return std::nullopt;
}

Result<KernelPlace> find_kernel(const dump::DumpFile& dump, const dump::PageSource<PhysAddr>& physical) {
  const Search s{dump, physical};
  for (auto* rung : {from_cpus, from_header, from_kdbg, from_low_stub, from_scan})
    if (auto k = rung(s)) return *k;
  if (!dump.other_system.empty() || mentions_linux(s))
    return fail(Error{.why = Why::unsupported, .detail = "the dump of a Linux guest, not of Windows"});
  if (const char* why = not_in_long_mode(dump)) return fail(Error{.why = Why::unsupported, .detail = why});
  const auto says = [&](std::string_view what, std::string_view words) {
    return std::ranges::any_of(dump.gaps, [&](const Gap& g) {
      return !g.minor && g.what.find(what) != g.what.npos && g.why.find(words) != g.why.npos;
    });
  };
  return fail(Error{
      .why = Why::unsupported,
      .detail =
          dump.format == "raw"
              ? "no Windows x64 kernel found in it as raw memory, and it begins like no form of dump that "
                "unhang knows"
          : says("", "truncated")
              ? "no Windows x64 kernel found in what is there of the dump: the file is truncated"
          : says("guest memory", "")
              ? "no Windows x64 kernel found in what could be read of the dump: its memory has gaps, "
                "which `unhang info` names"
              : "no Windows x64 kernel found in the dump"});
}

}  // namespace unhang::nt
