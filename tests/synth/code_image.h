// An image of hand-written code and unwind data, for tests that care about each byte of both.
#pragma once

#include <vector>

#include "base/types.h"

namespace unhang::synth {

class CodeImage {
 public:
  static constexpr u32 kText = 0x1000, kTextSize = 0x4000;
  static constexpr u32 kUnwind = kText + kTextSize, kUnwindSize = 0x2000;
  static constexpr u32 kPdata = kUnwind + kUnwindSize, kPdataSize = 0x1000;
  static constexpr u32 kSize = kPdata + kPdataSize;

  // Each returns the rva of what was added: code at a multiple of 16, with int3 around it; unwind data at a
  // multiple of 4.
  u32 add_code(const std::vector<u8>& bytes);
  u32 add_unwind(const std::vector<u8>& bytes);
  // A RUNTIME_FUNCTION in .pdata; entries may come in any order.
  void add_function(u32 begin, u32 end, u32 unwind);
  // Where the next code and the next unwind data will lie.
  u32 next_code() const;
  u32 next_unwind() const;

  // The image as it lies in memory.
  std::vector<u8> build() const;

 private:
  struct Entry {
    u32 begin, end, unwind;
  };
  std::vector<u8> code_, unwind_;
  std::vector<Entry> entries_;
};

// The bytes of an UNWIND_INFO. codes: slots as they lie, last prologue instruction first. chained: the
// RUNTIME_FUNCTION behind the codes, for kChained.
struct UnwindBytes {
  u8 version = 1;
  u8 flags = 0;
  u8 prolog_size = 0;
  u8 frame_register = 0;
  u8 frame_offset = 0;  // in units of 16 bytes
  std::vector<u8> codes;
  u32 chained[3] = {0, 0, 0};
  static constexpr u8 kChained = 4;

  std::vector<u8> build() const;
};

}  // namespace unhang::synth
