// ISF symbol files, plain and packed.
#include "symbols/importer.h"
#include "symbols/layout.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace unhang;
  if (size == 0 || (data[0] != '{' && data[0] != 0xFD)) return 0;
  const auto bytes = symbols::import_symbols(File::from_bytes({data, data + size}, "fuzz.json"));
  // What an importer makes is always a good layout.
  if (bytes && !symbols::Layout::from_bytes(*bytes, "fuzz")) std::abort();
  return 0;
}
