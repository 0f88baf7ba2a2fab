// What a dump says of one virtual CPU. The order is the file's; which Windows processor it is, only the
// KPCR can tell (nt/).
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "base/types.h"

namespace unhang::dump {

// Index into CpuState::gpr: the encoding order of x86-64, which the unwind codes also use.
enum Gpr : u8 { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 };
inline constexpr std::array<std::string_view, 16> kGprNames = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                               "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                               "r12", "r13", "r14", "r15"};

struct Segment {
  u16 selector = 0;
  u32 limit = 0;
  u32 flags = 0;
  u64 base = 0;
};

struct Xmm {
  u64 low = 0;
  u64 high = 0;
  friend bool operator==(const Xmm&, const Xmm&) = default;
};

struct CpuState {
  std::array<u64, 16> gpr{};
  u64 rip = 0;
  u64 rflags = 0;
  Segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0;
  // Control registers and segment bases are there (an NT_PRSTATUS note alone has none).
  bool has_control = false;

  // What only richer sources have: absent means "this form of dump does not hold it", not zero.
  std::optional<u64> kernel_gs_base;
  std::optional<u64> cr8, efer, star, lstar, cstar, fmask;
  std::optional<std::array<u64, 8>> dr;
  std::optional<std::array<Xmm, 16>> xmm;
  std::optional<u32> mxcsr;
  std::optional<bool> halted;
  // HV_X64_MSR_CRASH_P0 to P4: the bugcheck's code and parameters, when Windows told the hypervisor of it.
  std::optional<std::array<u64, 5>> hyperv_crash;

  int cpl() const { return cs.selector & 3; }
  bool user_mode() const { return cpl() == 3; }
  // CR4.LA57: five paging levels.
  int paging_levels() const { return (cr4 & (1u << 12)) != 0 ? 5 : 4; }
  bool long_mode() const {
    // EFER is not in ELF notes. With paging on and PAE, Windows x64 is always in long mode; a CPU still in
    // firmware has CR0.PG clear or a 32-bit code segment.
    if (efer) return (*efer & (1u << 10)) != 0;
    return has_control && (cr0 >> 31) != 0 && (cr4 & (1u << 5)) != 0;
  }
};

}  // namespace unhang::dump
