#include "dump/note.h"

#include <algorithm>

#include "base/format.h"
#include "dump/virtualbox_note.h"
#include "dump/windows_header.h"

namespace unhang::dump {

namespace {

constexpr u32 kNtPrstatus = 1;
constexpr u16 kMachineX86_64 = 62;

// The note's order of general registers, as indexes into CpuState::gpr.
constexpr Gpr kQemuOrder[] = {rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15};

Segment read_segment(ByteView d, u64 at) {
  return Segment{.selector = static_cast<u16>(d.at<u32>(at)),
                 .limit = d.at<u32>(at + 4),
                 .flags = d.at<u32>(at + 8),
                 .base = d.at<u64>(at + 16)};
}

// elf_prstatus of x86-64: registers at 112 in the order of struct user_regs_struct.
std::optional<CpuState> read_prstatus(ByteView d) {
  constexpr u64 kRegs = 112;
  if (!d.covers(kRegs, 27 * 8)) return std::nullopt;
  auto reg = [&](int i) { return d.at<u64>(kRegs + u64(i) * 8); };
  CpuState c;
  constexpr Gpr kOrder[] = {r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi};
  for (int i = 0; i < 15; i++) c.gpr[kOrder[i]] = reg(i);
  c.rip = reg(16);
  c.cs.selector = static_cast<u16>(reg(17));
  c.rflags = reg(18);
  c.gpr[rsp] = reg(19);
  c.ss.selector = static_cast<u16>(reg(20));
  // Not the real bases: QEMU fills fs_base and gs_base, but control registers are missing all the same.
  c.fs.base = reg(21);
  c.gs.base = reg(22);
  return c;
}

void take_vmcoreinfo(ByteView desc, Notes& out) {
  if (desc.starts_with("PAGEDU64")) {
    if (auto header = read_windows_header(desc)) out.header = std::move(*header);
    return;
  }
  // A Linux guest publishes text, "OSRELEASE=6.1.0-18-amd64" first.
  const std::string_view s(reinterpret_cast<const char*>(desc.data()), desc.size());
  if (const auto at = s.find("OSRELEASE="); at != s.npos) {
    const auto end = s.find('\n', at);
    out.other_system = "Linux " + std::string(s.substr(at + 10, end == s.npos ? 64 : end - at - 10));
  }
}

}  // namespace

std::optional<CpuState> read_qemu_cpu_state(ByteView d) {
  const u32 size = d.at<u32>(4);
  // 432 bytes until kernel_gs_base was added in 2018 (QEMU 2.13); the version stayed 1, so size decides.
  if (d.size() < 432 || size < 432 || d.at<u32>(0) != 1) return std::nullopt;
  CpuState c;
  c.has_control = true;
  for (size_t i = 0; i < 16; i++) c.gpr[kQemuOrder[i]] = d.at<u64>(8 + i * 8);
  c.rip = d.at<u64>(136);
  c.rflags = d.at<u64>(144);
  Segment* segments[] = {&c.cs, &c.ds, &c.es, &c.fs, &c.gs, &c.ss, &c.ldt, &c.tr, &c.gdt, &c.idt};
  for (size_t i = 0; i < 10; i++) *segments[i] = read_segment(d, 152 + i * 24);
  c.cr0 = d.at<u64>(392);
  c.cr2 = d.at<u64>(408);
  c.cr3 = d.at<u64>(416);
  c.cr4 = d.at<u64>(424);
  if (size >= 440) c.kernel_gs_base = d.le<u64>(432);
  return c;
}

Notes read_notes(ByteView notes, u16 machine) {
  Notes out;
  std::vector<CpuState> prstatus;
  std::optional<u32> virtualbox;  // version of its form
  u64 at = 0;
  constexpr size_t kMostCpus = 4096;  // of QEMU's q35; Windows Server 2025 takes 2048
  while (at + 12 <= notes.size()) {
    if (std::max(out.cpus.size(), prstatus.size()) > kMostCpus) {
      out.gaps.push_back({"CPU notes", hex(at), fmt::format("more than {} processors", kMostCpus)});
      break;
    }
    const u64 name_size = notes.at<u32>(at), desc_size = notes.at<u32>(at + 4);
    const u32 type = notes.at<u32>(at + 8);
    const u64 desc_at = at + 12 + ((name_size + 3) & ~u64{3});
    const auto name = notes.sub(at + 12, name_size);
    const auto desc = notes.sub(desc_at, desc_size);
    if (!name || !desc) {
      out.gaps.push_back({"CPU notes", hex(at), "the notes end in the middle of a note"});
      break;
    }
    const std::string_view who = name->c_string(0);
    if (who == "CORE" && type == kNtPrstatus && machine == kMachineX86_64) {
      if (auto cpu = read_prstatus(*desc)) prstatus.push_back(*cpu);
    } else if (who == "QEMU") {
      out.qemu = true;
      if (auto cpu = read_qemu_cpu_state(*desc))
        out.cpus.push_back(*cpu);
      else
        out.gaps.push_back({"CPU state", hex(at), "a QEMU note of an unknown version"});
    } else if (who == "VBCORE" && type == kVirtualBoxCore) {
      out.virtualbox = true;
      virtualbox = read_virtualbox_version(*desc);
      if (!virtualbox) out.gaps.push_back({"CPU state", hex(at), "a VirtualBox core of an unknown version"});
    } else if (who == "VBCPU" && type == kVirtualBoxCpu && virtualbox) {
      if (auto cpu = read_virtualbox_cpu(*desc, *virtualbox))
        out.cpus.push_back(*cpu);
      else
        out.gaps.push_back({"CPU state", hex(at), "a VirtualBox note that is too short"});
    } else if (who == "VMCOREINFO") {
      take_vmcoreinfo(*desc, out);
    }
    at = desc_at + ((desc_size + 3) & ~u64{3});
  }
  if (out.cpus.empty()) out.cpus = std::move(prstatus);
  return out;
}

}  // namespace unhang::dump
