// WinDbg takes each processor's registers from memory: KiProcessorBlock[n] -> KPRCB -> CONTEXT behind
// KPRCB+OffsetPrcbContext, control registers from KPRCB.ProcessorState. On a live machine both are stale;
// Windows fills them when it freezes the processors for a dump, and so do we (FORMATS 3.5).
#include "nt/crash_parts.h"

#include <algorithm>
#include <cstring>

#include "base/format.h"
#include "memory/read.h"
#include "nt/objects/cpu.h"
#include "nt/objects/thread.h"

namespace unhang::nt {

namespace {

constexpr u64 kContextSize = 0x4D0;
constexpr u64 kSpecialSize = 0xD8;       // KSPECIAL_REGISTERS up to SyscallMask, the same on every x64 build
constexpr u32 kLiveSystemDump = 0x161;   // LIVE_SYSTEM_DUMP, bugcodes.h
constexpr u32 kBreakpoint = 0x80000003;  // STATUS_BREAKPOINT
constexpr u32 kOffsetPrcbSpecial = 0x2F2, kOffsetPrcbContext = 0x338;
const VirtAddr kShared(0xFFFFF78000000000);  // KUSER_SHARED_DATA
constexpr u64 kMostRuns = 4096;

void put(std::vector<u8>& bytes, size_t at, auto value) {
  if (at + sizeof value <= bytes.size()) std::memcpy(bytes.data() + at, &value, sizeof value);
}

// CONTEXT (public header winnt.h).
std::vector<u8> context_bytes(const dump::CpuState& s) {
  std::vector<u8> c(kContextSize);
  u32 flags = 0x100000 | 1 | 2 | 4;  // AMD64, control, integer, segments
  if (s.xmm) flags |= 8;
  if (s.dr) flags |= 0x10;
  put(c, 0x30, flags);
  const u32 mxcsr = s.mxcsr.value_or(0x1F80);
  put(c, 0x34, mxcsr);
  const u16 selectors[] = {s.cs.selector, s.ds.selector, s.es.selector,
                           s.fs.selector, s.gs.selector, s.ss.selector};
  for (size_t i = 0; i < 6; i++) put(c, 0x38 + i * 2, selectors[i]);
  put(c, 0x44, static_cast<u32>(s.rflags));
  if (s.dr) {
    constexpr size_t kWhich[] = {0, 1, 2, 3, 6, 7};
    for (size_t i = 0; i < 6; i++) put(c, 0x48 + i * 8, (*s.dr)[kWhich[i]]);
  }
  for (size_t i = 0; i < 16; i++) put(c, 0x78 + i * 8, s.gpr[i]);
  put(c, 0xF8, s.rip);
  if (s.xmm) {
    put(c, 0x100, u16{0x27F});  // FltSave.ControlWord
    put(c, 0x118, mxcsr);
    for (size_t i = 0; i < 16; i++) put(c, 0x1A0 + i * 16, (*s.xmm)[i]);
  }
  return c;
}

// What the dump knows goes over what memory holds.
void fill_special(std::vector<u8>& r, const dump::CpuState& s) {
  put(r, 0x00, s.cr0);
  put(r, 0x08, s.cr2);
  put(r, 0x10, s.cr3);
  put(r, 0x18, s.cr4);
  if (s.dr) {
    constexpr size_t kWhich[] = {0, 1, 2, 3, 6, 7};
    for (size_t i = 0; i < 6; i++) put(r, 0x20 + i * 8, (*s.dr)[kWhich[i]]);
  }
  put(r, 0x56, static_cast<u16>(s.gdt.limit));
  put(r, 0x58, s.gdt.base);
  put(r, 0x66, static_cast<u16>(s.idt.limit));
  put(r, 0x68, s.idt.base);
  put(r, 0x70, s.tr.selector);
  put(r, 0x72, s.ldt.selector);
  if (s.mxcsr) put(r, 0x74, *s.mxcsr);
  if (s.cr8) put(r, 0xA0, *s.cr8);
  put(r, 0xA8, s.gs.base);
  if (s.kernel_gs_base) put(r, 0xB0, *s.kernel_gs_base);
  if (s.star) put(r, 0xB8, *s.star);
  if (s.lstar) put(r, 0xC0, *s.lstar);
  if (s.cstar) put(r, 0xC8, *s.cstar);
  if (s.fmask) put(r, 0xD0, *s.fmask);
}

class Maker {
 public:
  Maker(const Target& target, CrashParts& parts) : t_(target), p_(parts) {}

  void patch(VirtAddr va, std::span<const u8> bytes, const char* what) {
    while (!bytes.empty()) {
      const size_t n = std::min<u64>(va.left_in_page(), bytes.size());
      const auto mapping = t_.paging()->translate(va);
      if (!mapping) {
        p_.gaps.push_back({what, hex(va), text(mapping.error())});
        return;
      }
      p_.patches.push_back({mapping->pa, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n)}});
      va += n;
      bytes = bytes.subspan(n);
    }
  }

  u64 kdbg_number(u32 field) const { return t_.kdbg() ? t_.kdbg()->number(field) : 0; }

  void processor(const Cpu& cpu) {
    if (cpu.damaged) {
      p_.gaps.push_back({fmt::format("registers of processor {}", cpu.number), hex(cpu.kprcb),
                         "not written: what lies where its KPRCB must be is something else"});
      return;
    }
    // What Windows has left there, or another converter, is more than was read of it.
    if (cpu.state_in_memory) {
      p_.contexts++;
      p_.xmm |= cpu.state->xmm.has_value();
      return;
    }
    const Object prcb(t_, cpu.kprcb);
    const VirtAddr context = context_of(cpu);
    const std::vector<u8> bytes = bytes_of(cpu);
    const auto frame = prcb.address(KPRCB::ContextFrame);
    if (is_kernel(context))
      patch(context, bytes, "CONTEXT of a processor");
    else if (!frame)
      p_.gaps.push_back(
          {fmt::format("CONTEXT of processor {}", cpu.number), hex(cpu.kprcb), "its place is unknown"});
    if (frame && *frame != context) patch(*frame, bytes, "KPROCESSOR_STATE of a processor");
    if (is_kernel(context) || frame) p_.contexts++;
    p_.xmm |= cpu.state->xmm.has_value();
    special_registers(cpu);
  }

  void kdbg() {
    if (!t_.kdbg()) {
      p_.gaps.push_back({"KDBG", "", "not found: WinDbg will have to find and decode it by itself"});
      return;
    }
    const Kdbg& block = *t_.kdbg();
    p_.header.kd_debugger_data_block = block.va();
    patch(block.va(), block.view().span(), "KDBG");
    // Readers that know of the encoding take a set flag for "still encoded".
    if (const auto flag = t_.symbol("KdpDataBlockEncoded"))
      patch(*flag, std::array<u8, 1>{0}, "KdpDataBlockEncoded");
    p_.header.ps_loaded_module_list = block.pointer(Kdbg::kPsLoadedModuleList);
    p_.header.ps_active_process_head = block.pointer(Kdbg::kPsActiveProcessHead);
    if (const VirtAddr at = block.pointer(Kdbg::kMmPfnDatabase); !at.is_null())
      p_.header.pfn_database = memory::read<VirtAddr>(t_.kernel(), at).value_or(VirtAddr());
  }

  void header() {
    dump::CrashHeader& h = p_.header;
    h.build = t_.build();
    h.directory_table_base = t_.place().dtb;
    h.processors = static_cast<u32>(t_.cpus().size());
    if (h.ps_loaded_module_list.is_null())
      h.ps_loaded_module_list = t_.symbol("PsLoadedModuleList").value_or(VirtAddr());
    if (h.ps_active_process_head.is_null())
      h.ps_active_process_head = t_.symbol("PsActiveProcessHead").value_or(VirtAddr());
    // KUSER_SHARED_DATA (ntddk.h): InterruptTime +8, SystemTime +0x14, NtProductType +0x264, SuiteMask
    // +0x2D0.
    h.up_time = memory::read<u64>(t_.kernel(), kShared + 8).value_or(0);
    h.system_time = memory::read<u64>(t_.kernel(), kShared + 0x14).value_or(0);
    h.product_type = memory::read<u32>(t_.kernel(), kShared + 0x264).value_or(0);
    h.suite_mask = memory::read<u32>(t_.kernel(), kShared + 0x2D0).value_or(0);
    if (const auto& source = t_.dump().header) {
      if (h.up_time == 0) h.up_time = source->system_up_time;
      if (h.system_time == 0) h.system_time = source->system_time;
    }
  }

  // What Windows said of its end when it had one, else the code for a dump of a machine that runs on.
  void bug_check() {
    dump::CrashHeader& h = p_.header;
    const auto at = t_.symbol("KiBugCheckData");
    std::array<u64, 5> data{};
    if (at) data = memory::read<std::array<u64, 5>>(t_.kernel(), *at).value_or(std::array<u64, 5>{});
    if (data[0] == 0)
      for (const Cpu& cpu : t_.cpus())
        if (cpu.state && cpu.state->hyperv_crash && (*cpu.state->hyperv_crash)[0] != 0)
          data = *cpu.state->hyperv_crash;
    if (data[0] == 0 && t_.dump().header && t_.dump().header->bug_check_code != 0) {
      data[0] = t_.dump().header->bug_check_code;
      std::copy_n(t_.dump().header->bug_check_parameters, 4, data.begin() + 1);
    }
    if (data[0] == 0) data[0] = kLiveSystemDump;
    h.bug_check_code = static_cast<u32>(data[0]);
    std::copy(data.begin() + 1, data.end(), h.bug_check_parameters.begin());
    if (at) patch(*at, std::span(reinterpret_cast<const u8*>(data.data()), sizeof data), "KiBugCheckData");
  }

  Result<void> choose(std::optional<u32> wanted) {
    const Cpu* chosen = nullptr;
    for (const Cpu& cpu : t_.cpus()) {
      if (!cpu.state) continue;
      const bool busy = is_kernel(cpu.current_thread) && cpu.current_thread != cpu.idle_thread;
      if (wanted ? cpu.number == *wanted
                 : chosen == nullptr || (busy && chosen->current_thread == chosen->idle_thread))
        chosen = &cpu;
    }
    if (wanted && chosen == nullptr)
      return fail(Error{.why = Why::unsupported, .detail = "no registers of that processor are in the dump"});
    if (chosen == nullptr) {
      p_.gaps.push_back(
          {"registers", "", "the dump has none: WinDbg will show no stack of a running thread"});
      return {};
    }
    p_.chosen_cpu = chosen->number;
    p_.header.context = bytes_of(*chosen);
    std::vector<u8> special(kSpecialSize);
    // Over what memory holds; of a processor that is damaged, over nothing.
    if (const VirtAddr at = special_of(*chosen);
        chosen->damaged || at.is_null() || !memory::read_exact(t_.kernel(), at, special))
      special.assign(kSpecialSize, 0);
    if (!chosen->state_in_memory && chosen->state->has_control) fill_special(special, *chosen->state);
    p_.header.context.insert(p_.header.context.end(), special.begin(), special.end());
    p_.header.exception_code = kBreakpoint;
    p_.header.exception_address = VirtAddr(chosen->state->rip);
    return {};
  }

  // The dump's pages without those that Windows does not own, if its own list can be believed.
  void ranges() {
    const auto all = dump::whole_pages(t_.physical()->ranges());
    p_.ranges = all;
    const auto owned = windows_ranges();
    if (owned.empty()) {
      p_.gaps.push_back({"MmPhysicalMemoryBlock", "", "cannot be read: all that is in the dump is written"});
      return;
    }
    const auto cut = dump::intersection(all, owned);
    const auto holds = [&](PhysAddr pa) {
      return std::any_of(cut.begin(), cut.end(),
                         [&](const dump::PhysRange& r) { return pa >= r.start && pa < r.end(); });
    };
    const bool whole =
        holds(t_.place().dtb) &&
        std::all_of(p_.patches.begin(), p_.patches.end(), [&](const dump::Patch& x) { return holds(x.at); });
    if (!whole) {
      p_.gaps.push_back({"MmPhysicalMemoryBlock", "",
                         "does not hold the kernel's own pages: all that is in the dump is written"});
      return;
    }
    auto bytes = [](const std::vector<dump::PhysRange>& list) {
      u64 n = 0;
      for (const auto& r : list) n += r.size;
      return n;
    };
    p_.left_out = bytes(all) - bytes(cut);
    p_.ranges = cut;
    p_.header.physical_memory = owned;
  }

 private:
  // Where a processor's CONTEXT belongs; not a kernel address: nowhere.
  VirtAddr context_of(const Cpu& cpu) const {
    VirtAddr context{};
    if (const u64 offset = kdbg_number(kOffsetPrcbContext); offset != 0)
      context = memory::read<VirtAddr>(t_.kernel(), cpu.kprcb + offset).value_or(VirtAddr());
    return is_kernel(context) ? context : Object(t_, cpu.kprcb).value_or(KPRCB::Context, {});
  }

  VirtAddr special_of(const Cpu& cpu) const {
    if (const u64 offset = kdbg_number(kOffsetPrcbSpecial); offset != 0) return cpu.kprcb + offset;
    return Object(t_, cpu.kprcb).address(KPRCB::SpecialRegisters).value_or(VirtAddr());
  }

  // The CONTEXT of a processor: as it is in the dump where that has one, else made of its registers.
  std::vector<u8> bytes_of(const Cpu& cpu) const {
    std::vector<u8> bytes(kContextSize);
    if (cpu.state_in_memory) {
      const auto frame = Object(t_, cpu.kprcb).address(KPRCB::ContextFrame);
      for (const VirtAddr at : {context_of(cpu), frame.value_or(VirtAddr())})
        if (is_kernel(at) && memory::read_exact(t_.kernel(), at, bytes) &&
            state_from_context(ByteView(bytes.data(), bytes.size())))
          return bytes;
    }
    const auto& header = t_.dump().header;
    if (header && header->context.size() >= kContextSize && t_.dump().cpus.empty()) {
      bytes.assign(header->context.begin(), header->context.begin() + kContextSize);
      if (const auto s = state_from_context(ByteView(bytes.data(), bytes.size()));
          s && s->rip == cpu.state->rip && s->gpr == cpu.state->gpr)
        return bytes;
    }
    return context_bytes(*cpu.state);
  }

  void special_registers(const Cpu& cpu) {
    const VirtAddr at = special_of(cpu);
    if (at.is_null() || !cpu.state->has_control) return;
    std::vector<u8> bytes(kSpecialSize);
    if (!memory::read_exact(t_.kernel(), at, bytes)) return;
    fill_special(bytes, *cpu.state);
    patch(at, bytes, "control registers of a processor");
  }

  // PHYSICAL_MEMORY_DESCRIPTOR: NumberOfRuns u32, NumberOfPages u64 +8, runs of {page, count} +0x10.
  std::vector<dump::PhysRange> windows_ranges() const {
    std::vector<dump::PhysRange> out;
    const auto block = t_.pointer_at("MmPhysicalMemoryBlock");
    if (!block || !is_kernel(*block)) return out;
    const u32 count = memory::read<u32>(t_.kernel(), *block).value_or(0);
    if (count == 0 || count > kMostRuns) return out;
    for (u64 i = 0; i < count; i++) {
      const auto run = memory::read<std::array<u64, 2>>(t_.kernel(), *block + 0x10 + i * 16);
      if (!run || (*run)[0] >> 40 != 0 || (*run)[1] >> 40 != 0) return {};
      const dump::PhysRange range{Pfn{(*run)[0]}.address(), (*run)[1] << kPageShift};
      if (!out.empty() && range.start < out.back().end()) return {};  // Windows keeps them sorted
      if (range.size != 0) out.push_back(range);
    }
    return out;
  }

  const Target& t_;
  CrashParts& p_;
};

}  // namespace

Result<CrashParts> crash_parts(const Target& target, std::optional<u32> cpu) {
  if (target.physical() == nullptr || target.paging() == nullptr)
    return fail(
        Error{.why = Why::unsupported, .detail = "a triage dump holds no physical memory to convert"});
  CrashParts parts;
  Maker maker(target, parts);
  maker.kdbg();
  maker.header();
  maker.bug_check();
  TRY_VOID(maker.choose(cpu));
  for (const Cpu& c : target.cpus())
    if (c.state) maker.processor(c);
  maker.ranges();
  return parts;
}

}  // namespace unhang::nt
