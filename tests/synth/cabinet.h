// Cabinet files for tests: one file, MSZIP or LZX (in stored blocks), in every wrong way that is asked for.
#pragma once

#include <string>
#include <vector>

#include "base/types.h"

namespace unhang::synth {

struct CabinetOptions {
  bool lzx = false;        // else MSZIP; LZX: up to 32 KiB
  u32 claimed_size = 0;    // of the file in it, when it is a lie
  u32 file_offset = 0;     // of the file in its folder
  u16 claimed_blocks = 0;  // CFFOLDER.cCFData, when it is a lie
};
std::vector<u8> cabinet(const std::vector<u8>& bytes, const std::string& name, CabinetOptions options = {});

}  // namespace unhang::synth
