// UNWIND_INFO of .xdata: how a function's prologue moved the stack pointer and where it saved registers.
// Source: Microsoft, "x64 exception handling" (versions 1 and 2; version 3 is refused).
#pragma once

#include <optional>
#include <vector>

#include "base/source.h"
#include "image/image.h"

namespace unhang::image {

enum class UnwindOp : u8 {
  push_nonvol = 0,
  alloc_large = 1,
  alloc_small = 2,
  set_fpreg = 3,
  save_nonvol = 4,
  save_nonvol_far = 5,
  epilog = 6,  // version 2; in version 1 an obsolete XMM save of two slots
  spare = 7,
  save_xmm128 = 8,
  save_xmm128_far = 9,
  push_machframe = 10,
};

struct UnwindCode {
  u8 offset = 0;  // in the prologue, of the end of the instruction
  UnwindOp op{};
  u8 info = 0;
  u32 operand = 0;  // bytes: size of an allocation or offset of a save
};

struct UnwindInfo {
  u8 version = 0;
  u8 flags = 0;
  u8 prolog_size = 0;
  u8 frame_register = 0;          // 0: none
  u32 frame_offset = 0;           // bytes
  std::vector<UnwindCode> codes;  // as they lie: last prologue instruction first; epilogue codes left out
  std::optional<RuntimeFunction> chained;
};

// Errors: those of reading, bad_file (codes that run over their count), unsupported (version 3).
Result<UnwindInfo> read_unwind_info(const Source<Rva>& image, Rva rva);

}  // namespace unhang::image
