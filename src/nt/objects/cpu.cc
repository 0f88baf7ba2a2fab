#include "nt/objects/cpu.h"

#include <algorithm>

#include "base/format.h"
#include "memory/read.h"
#include "nt/bootstrap.h"
#include "nt/objects/process.h"
#include "nt/objects/thread.h"

namespace unhang::nt {

namespace {

constexpr u32 kMostProcessors = 2048;
constexpr u64 kContextSize = 0x4D0;

std::optional<Cpu> read_prcb(const Target& target, VirtAddr prcb) {
  const Object p(target, prcb);
  const auto number = p[KPRCB::Number];
  const auto current = p[KPRCB::CurrentThread];
  if (!number || !current || *number >= kMostProcessors) return std::nullopt;
  Cpu cpu{.number = *number, .kpcr = prcb - kPrcbInPcr, .kprcb = prcb, .current_thread = *current};
  cpu.next_thread = p.value_or(KPRCB::NextThread, {});
  cpu.idle_thread = p.value_or(KPRCB::IdleThread, {});
  return cpu;
}

// KSPECIAL_REGISTERS: Cr0 0, Cr2 8, Cr3 10, Cr4 18, Gdtr 50 and Idtr 60 (limit +6, base +8), Cr8 A0,
// MsrGsBase A8, MsrGsSwap B0. Saved beside the CONTEXT; a dump without them has zeros.
void take_special_registers(const Target& target, const Object& prcb, dump::CpuState& s) {
  const auto at = prcb.address(KPRCB::SpecialRegisters);
  if (!at) return;
  const auto r = memory::read<std::array<u64, 24>>(target.kernel(), *at);
  if (!r || (*r)[2] == 0) return;
  s.has_control = true;
  s.cr0 = (*r)[0];
  s.cr2 = (*r)[1];
  s.cr3 = (*r)[2];
  s.cr4 = (*r)[3];
  s.gdt.base = (*r)[0x58 / 8];
  s.idt.base = (*r)[0x68 / 8];
  s.cr8 = (*r)[0xA0 / 8];
  s.gs.base = (*r)[0xA8 / 8];
  s.kernel_gs_base = (*r)[0xB0 / 8];
}

// Windows stops the other processors before it writes a crash dump and leaves each one's CONTEXT behind
// KPRCB.Context (up to Windows 7 without it: in ProcessorState).
void take_saved_context(const Target& target, Cpu& cpu) {
  const Object p(target, cpu.kprcb);
  const auto pointer = p[KPRCB::Context];
  const auto frame = p.address(KPRCB::ContextFrame);
  const std::pair<VirtAddr, const char*> places[] = {{pointer ? *pointer : VirtAddr(), "KPRCB.Context"},
                                                     {frame ? *frame : VirtAddr(), "KPRCB.ProcessorState"}};
  for (const auto& [at, name] : places) {
    std::array<u8, kContextSize> bytes{};
    if (!is_kernel(at) || !memory::read_exact(target.kernel(), at, bytes)) continue;
    auto state = state_from_context(ByteView(bytes.data(), bytes.size()));
    if (!state || state->rip == 0) continue;
    take_special_registers(target, p, *state);
    cpu.state = std::move(state);
    cpu.state_from = name;
    cpu.state_in_memory = true;
    return;
  }
}

// The header's CONTEXT belongs to the processor whose current thread's stack it points into.
void take_header_context(const Target& target, std::vector<Cpu>& cpus) {
  const auto& header = target.dump().header;
  if (!header || header->context.empty()) return;
  const auto state = state_from_context(ByteView(header->context.data(), header->context.size()));
  if (!state) return;
  const VirtAddr sp(state->gpr[dump::rsp]);
  for (Cpu& cpu : cpus) {
    const Object t(target, cpu.current_thread);
    const auto base = t[KTHREAD::StackBase], limit = t[KTHREAD::StackLimit];
    if (!base || !limit || sp < *limit || sp >= *base) continue;
    // Memory says the same, and has the control registers beside it.
    if (cpu.state && cpu.state->rip == state->rip && cpu.state->gpr == state->gpr) continue;
    cpu.state = state;
    take_special_registers(target, Object(target, cpu.kprcb), *cpu.state);
    cpu.state_from = "Windows dump header";
    cpu.state_in_memory = false;
  }
}

// A processor whose KPCR cannot be trusted: GS still points to it, and KiProcessorBlock still has its KPRCB.
std::optional<Cpu> from_processor_block(const Target& target, const dump::CpuState& state) {
  const auto block = target.symbol("KiProcessorBlock");
  if (!block) return std::nullopt;
  for (const u64 gs : {state.gs.base, state.kernel_gs_base.value_or(0)}) {
    const VirtAddr pcr(gs);
    if (!is_kernel(pcr)) continue;
    for (u32 i = 0; i < kMostProcessors; i++) {
      const auto prcb = memory::read<VirtAddr>(target.kernel(), *block + i * u64{8});
      if (!prcb || !is_kernel(*prcb)) break;
      if (*prcb != pcr + kPrcbInPcr) continue;
      return Cpu{.number = i, .kpcr = pcr, .kprcb = *prcb, .damaged = true};
    }
  }
  return std::nullopt;
}

// The current thread of a processor without a KPCR is the one on whose stack it runs. Idle threads are on no
// list that needs no symbols: other processors lead to their process.
void find_current_thread(const Target& target, const std::vector<Cpu>& others, Cpu& cpu) {
  if (!cpu.state || cpu.state->user_mode()) return;
  std::vector<VirtAddr> idle;
  for (const Cpu& other : others)
    if (const auto p = Object(target, other.idle_thread)[KTHREAD::Process]; p && is_process(target, *p)) {
      idle.push_back(*p);
      break;
    }
  const auto thread = find_thread_by_stack(target, VirtAddr(cpu.state->gpr[dump::rsp]), idle);
  if (!thread) return;
  cpu.current_thread = *thread;
  const auto process = Object(target, *thread)[KTHREAD::Process];
  if (process && !idle.empty() && *process == idle.front()) cpu.idle_thread = *thread;
}

void add_known_to_windows(const Target& target, CpuList& list) {
  const auto block = target.symbol("KiProcessorBlock");
  if (!block) {
    if (list.cpus.empty()) list.gaps.push_back({"processors", "", text(block.error())});
    return;
  }
  for (u32 i = 0; i < kMostProcessors; i++) {
    const auto prcb = memory::read<VirtAddr>(target.kernel(), *block + i * u64{8});
    if (!prcb || !is_kernel(*prcb)) break;
    const auto known =
        std::find_if(list.cpus.begin(), list.cpus.end(), [&](const Cpu& c) { return c.kprcb == *prcb; });
    if (known != list.cpus.end()) continue;
    auto cpu = read_prcb(target, *prcb);
    if (!cpu) {
      list.gaps.push_back({fmt::format("processor {}", i), hex(*prcb), "its KPRCB cannot be read"});
      continue;
    }
    if (cpu->number != i) break;  // behind the end of the table
    list.cpus.push_back(*cpu);
  }
}

// A vCPU whose registers are not Windows': more vCPUs than the edition uses, one that has not been started,
// or one that a hypervisor inside of the guest had when the host stopped it (Hyper-V, which
// virtualization-based security brings along): it keeps Windows' registers in memory of its own.
std::string why_no_kpcr(const Target& target, const dump::CpuState& state) {
  if (!state.long_mode()) return "not started: not in 64-bit mode, so not a processor that Windows uses";
  if (state.user_mode() || target.physical() == nullptr) return "no KPCR: not a processor that Windows uses";
  const std::string name = foreign_kernel_of(state, *target.physical());
  if (name.empty())
    return "no KPCR: firmware or a hypervisor inside of the guest had it, or Windows does not use it";
  return fmt::format(
      "it ran {} when the dump was taken, which holds Windows' registers where they cannot be read", name);
}

}  // namespace

std::optional<dump::CpuState> state_from_context(ByteView c) {
  constexpr u32 kAmd64 = 0x100000, kControl = 1;
  const u32 flags = c.at<u32>(0x30);
  if (c.size() < kContextSize || (flags & kAmd64) == 0 || (flags & kControl) == 0) return std::nullopt;
  dump::CpuState s;
  s.cs.selector = c.at<u16>(0x38);
  s.ds.selector = c.at<u16>(0x3A);
  s.es.selector = c.at<u16>(0x3C);
  s.fs.selector = c.at<u16>(0x3E);
  s.gs.selector = c.at<u16>(0x40);
  s.ss.selector = c.at<u16>(0x42);
  s.mxcsr = c.at<u32>(0x34);
  s.rflags = c.at<u32>(0x44);
  for (size_t i = 0; i < 16; i++) s.gpr[i] = c.at<u64>(0x78 + i * 8);
  s.rip = c.at<u64>(0xF8);
  if ((flags & 0x10) != 0) {
    constexpr size_t kWhich[] = {0, 1, 2, 3, 6, 7};
    s.dr.emplace();
    for (size_t i = 0; i < 6; i++) (*s.dr)[kWhich[i]] = c.at<u64>(0x48 + i * 8);
  }
  if ((flags & 8) != 0) {
    s.xmm.emplace();
    for (size_t i = 0; i < 16; i++) (*s.xmm)[i] = c.at<dump::Xmm>(0x1A0 + i * 16);
  }
  return s;
}

// Both members point to the machine frame that leads back to the interrupted stack: it lies at the end of a
// page (seen in published output of 19041: DpcStack fffff800`436a8fb0; the outermost Child-SP on such a stack
// is ...fb0 in 7601 too).
std::vector<VirtAddr> interrupt_stacks(const Target& target, const Cpu& cpu) {
  std::vector<VirtAddr> ends;
  for (const auto* member : {&KPRCB::DpcStack, &KPRCB::IsrStack})
    if (const auto top = Object(target, cpu.kprcb).maybe(*member); top && is_kernel(*top))
      ends.push_back(VirtAddr((top->value() + kPageSize - 1) & ~u64{kPageSize - 1}));
  return ends;
}

CpuList read_cpus(const Target& target) {
  CpuList list;
  const auto& states = target.dump().cpus;
  for (size_t i = 0; i < states.size(); i++) {
    const auto pcr = kpcr_of(states[i], target.kernel());
    auto cpu = pcr ? read_prcb(target, *pcr + kPrcbInPcr) : std::nullopt;
    if (!cpu && (cpu = from_processor_block(target, states[i])))
      list.gaps.push_back(
          {fmt::format("KPCR of processor {}", cpu->number), hex(cpu->kpcr),
           "damaged: found through KiProcessorBlock, its thread by the stack that it runs on"});
    if (!cpu) {
      list.gaps.push_back({fmt::format("CPU {} of the dump", i), "", why_no_kpcr(target, states[i])});
      continue;
    }
    cpu->state = states[i];
    cpu->state_from = fmt::format("CPU {} of the dump", i);
    list.cpus.push_back(*cpu);
  }
  if (!list.cpus.empty()) list.known.push_back({"processors", "each vCPU's KPCR"});
  for (Cpu& cpu : list.cpus)
    if (!is_kernel(cpu.current_thread)) find_current_thread(target, list.cpus, cpu);
  const size_t mapped = list.cpus.size();
  add_known_to_windows(target, list);
  if (mapped == 0 && !list.cpus.empty()) list.known.push_back({"processors", "KiProcessorBlock"});
  // Contexts in memory are fresh only in dumps that Windows itself wrote.
  if (target.dump().header && states.empty()) {
    for (Cpu& cpu : list.cpus) take_saved_context(target, cpu);
    take_header_context(target, list.cpus);
  }
  std::stable_sort(list.cpus.begin(), list.cpus.end(),
                   [](const Cpu& a, const Cpu& b) { return a.number < b.number; });
  if (list.cpus.empty() && target.dump().header)
    list.gaps.push_back({"processors", "",
                         fmt::format("none of the {} that the dump's header counts was found",
                                     target.dump().header->processors)});
  for (const Cpu& cpu : list.cpus)
    if (!cpu.state)
      list.gaps.push_back(
          {fmt::format("registers of processor {}", cpu.number), hex(cpu.kprcb), "the dump has none for it"});
  return list;
}

}  // namespace unhang::nt
