// Tar files that `symbols import` reads, and symbol paths.
#include "symbols/archive.h"
#include "symbols/symbol_path.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace unhang;
  symbols::Store store({}, "");
  (void)symbols::unpack_layouts(ByteView(data, size), store);
  (void)symbols::parse_symbol_path({reinterpret_cast<const char*>(data), size}, "/default");
  return 0;
}
