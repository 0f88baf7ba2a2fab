// Dumps without an x64 kernel: what the processors say of the reason.
#include <gtest/gtest.h>

#include "nt/target.h"
#include "synth/memory.h"

namespace unhang {
namespace {

constexpr u64 kPagingOn = 0x80050033, kPae = 0x6f8;
constexpr u32 kLongCode = 0xaf9a00, kCode32 = 0xcf9a00;  // code segments, descriptors' high words

std::string refusal(const dump::CpuState& state) {
  dump::DumpFile d;
  d.file = File::from_bytes(std::vector<u8>(1), "synthetic");
  auto pages = std::make_unique<synth::Pages>();
  for (u64 i = 0; i < 16; i++) pages->page(Pfn{i});
  d.physical = std::move(pages);
  d.cpus = {state};
  const auto target = nt::Target::open(std::move(d), {});
  return target ? "opened" : text(target.error());
}

dump::CpuState state(u64 cr0, u32 code_flags) {
  dump::CpuState s;
  s.has_control = true;
  s.cr0 = cr0;
  s.cr4 = kPae;
  s.cs.selector = 0x10;
  s.cs.flags = code_flags;
  return s;
}

TEST(NoKernel, Firmware) {
  EXPECT_NE(refusal(state(0x11, kCode32)).find("no system had been started"), std::string::npos);
}

TEST(NoKernel, X86Guest) {
  EXPECT_NE(refusal(state(kPagingOn, kCode32)).find("32-bit (x86) guest"), std::string::npos);
  dump::CpuState s = state(kPagingOn, 0);  // a form without segments, but with EFER
  s.efer = 0x800;
  EXPECT_NE(refusal(s).find("32-bit (x86) guest"), std::string::npos);
}

TEST(NoKernel, X64Guest) {
  EXPECT_NE(refusal(state(kPagingOn, kLongCode)).find("no Windows x64 kernel found"), std::string::npos);
  // 32-bit code of a program says nothing of the kernel.
  dump::CpuState s = state(kPagingOn, kCode32);
  s.cs.selector = 0x23;
  EXPECT_NE(refusal(s).find("no Windows x64 kernel found"), std::string::npos);
}

}  // namespace
}  // namespace unhang
