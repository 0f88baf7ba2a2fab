// Cabinets: what comes from a symbol server. The container's reader and the decompressors are libmspack's.
#include "symbols/cabinet.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace unhang;
  constexpr u64 kMost = 1 << 22;
  u64 total = 0;
  const auto r = symbols::unpack_cabinet(ByteView(data, size), kMost, [&](std::span<const u8> bytes) {
    total += bytes.size();
    return true;
  });
  if (total > kMost || (r && *r != total)) __builtin_trap();
  return 0;
}
