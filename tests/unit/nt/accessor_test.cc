// Offsets in the code of exported accessor functions.
#include "nt/accessor.h"

#include <gtest/gtest.h>

#include <vector>

namespace unhang {
namespace {

TEST(Accessor, OffsetsInCode) {
  const auto offset = [](std::vector<u8> code) { return nt::offset_in_code(code); };
  // mov rax, [rcx+440h]; ret, as PsGetProcessId of 19041.
  EXPECT_EQ(offset({0x48, 0x8b, 0x81, 0x40, 0x04, 0, 0, 0xc3}), 0x440u);
  // lea rax, [rcx+5A8h]; ret
  EXPECT_EQ(offset({0x48, 0x8d, 0x81, 0xa8, 0x05, 0, 0, 0xc3}), 0x5a8u);
  // mov eax, [rcx+20h]; ret
  EXPECT_EQ(offset({0x8b, 0x41, 0x20, 0xc3, 0, 0, 0, 0, 0}), 0x20u);
  // mov rax, gs:[188h]; mov rax, [rax+4C0h]; ret, as IoGetTopLevelIrp.
  EXPECT_EQ(offset({0x65, 0x48, 0x8b, 0x04, 0x25, 0x88, 1, 0, 0, 0x48, 0x8b, 0x80, 0xc0, 0x04, 0, 0, 0xc3}),
            0x4c0u);
  // Other registers, other instructions, no return, cut.
  EXPECT_FALSE(offset({0x48, 0x8b, 0x82, 0x40, 0x04, 0, 0, 0xc3}).has_value());
  EXPECT_FALSE(offset({0x48, 0x8b, 0x81, 0x40, 0x04, 0, 0, 0x90, 0xc3}).has_value());
  EXPECT_FALSE(offset({0x48, 0x83, 0xec, 0x28, 0xe8, 0, 0, 0, 0}).has_value());
  EXPECT_FALSE(offset({0x48, 0x8b}).has_value());
}

}  // namespace
}  // namespace unhang
