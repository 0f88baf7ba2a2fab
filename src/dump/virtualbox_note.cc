// DBGFCOREDESCRIPTOR and DBGFCORECPU as VirtualBox publishes them (include/VBox/vmm/dbgfcorefmt.h) and fills
// them (src/VBox/VMM/VMMR3/DBGFCoreWrite.cpp): facts only. No real file was at hand.
#include "dump/virtualbox_note.h"

namespace unhang::dump {

namespace {

constexpr u32 kMagic = 0xc01ac0de;
// Extended state (XSAVE) behind a size of its own; only this version's place of it is published as it is read
// here.
constexpr u32 kVersionWithExtended = 0x00010006;
constexpr u64 kFixedSize = 560, kExtendedSize = 576, kExtended = 584, kLegacySave = 512;

// DBGFCORESEL {u64 base; u32 limit, attributes; u16 selector; padding}
Segment read_selector(ByteView d, u64 at) {
  return {.selector = d.at<u16>(at + 16),
          .limit = d.at<u32>(at + 8),
          .flags = d.at<u32>(at + 12),
          .base = d.at<u64>(at)};
}

// DBGFCOREXDTR {u64 address; u32 limit; padding}
Segment read_table(ByteView d, u64 at) {
  return {.selector = 0, .limit = d.at<u32>(at + 8), .flags = 0, .base = d.at<u64>(at)};
}

}  // namespace

std::optional<u32> read_virtualbox_version(ByteView desc) {
  if (desc.size() < 24 || desc.at<u32>(0) != kMagic) return std::nullopt;
  const u32 version = desc.at<u32>(4);
  if (version >> 16 != 1) return std::nullopt;
  return version;
}

std::optional<CpuState> read_virtualbox_cpu(ByteView d, u32 version) {
  if (d.size() < kFixedSize) return std::nullopt;
  CpuState c;
  c.has_control = true;
  constexpr Gpr kOrder[] = {rax, rbx, rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15};
  for (u64 i = 0; i < std::size(kOrder); i++) c.gpr[kOrder[i]] = d.at<u64>(i * 8);
  c.rip = d.at<u64>(112);
  c.gpr[rsp] = d.at<u64>(120);
  c.gpr[rbp] = d.at<u64>(128);
  c.rflags = d.at<u64>(136);
  Segment* const segments[] = {&c.cs, &c.ds, &c.es, &c.fs, &c.gs, &c.ss};
  for (u64 i = 0; i < std::size(segments); i++) *segments[i] = read_selector(d, 144 + i * 24);
  c.cr0 = d.at<u64>(288);
  c.cr2 = d.at<u64>(296);
  c.cr3 = d.at<u64>(304);
  c.cr4 = d.at<u64>(312);
  c.dr.emplace();
  for (u64 i = 0; i < 8; i++) (*c.dr)[i] = d.at<u64>(320 + i * 8);
  c.gdt = read_table(d, 384);
  c.idt = read_table(d, 400);
  c.ldt = read_selector(d, 416);
  c.tr = read_selector(d, 440);
  // 464: SYSENTER's registers; 504: PAT
  c.efer = d.at<u64>(488);
  c.star = d.at<u64>(496);
  c.lstar = d.at<u64>(512);
  c.cstar = d.at<u64>(520);
  c.fmask = d.at<u64>(528);
  c.kernel_gs_base = d.at<u64>(536);
  if (version >= kVersionWithExtended && d.at<u32>(kExtendedSize) >= kLegacySave &&
      d.covers(kExtended, kLegacySave)) {
    // The legacy part of an XSAVE area (Intel SDM 1, 13.4.1).
    c.mxcsr = d.at<u32>(kExtended + 24);
    c.xmm.emplace();
    for (u64 i = 0; i < 16; i++)
      (*c.xmm)[i] = {d.at<u64>(kExtended + 160 + i * 16), d.at<u64>(kExtended + 168 + i * 16)};
  }
  return c;
}

}  // namespace unhang::dump
