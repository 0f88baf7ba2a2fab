// What every fuzz target of a dump format is: open the bytes as a dump, read a bounded number of its pages.
#pragma once

#include <string_view>

#include "dump/dump_file.h"

namespace unhang::dump {

// Opens the bytes when they begin like one of the formats named; all formats when none is.
void fuzz_dump(std::span<const u8> bytes, std::initializer_list<std::string_view> formats);

}  // namespace unhang::dump

// FUZZ_FORMATS("kdump"): a target that opens only those.
#define FUZZ_FORMATS(...)                                                              \
  extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) { \
    ::unhang::dump::fuzz_dump({data, size}, {__VA_ARGS__});                            \
    return 0;                                                                          \
  }
