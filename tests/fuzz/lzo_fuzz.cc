#include <vector>

#include "dump/lzo.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  for (const std::size_t room : {std::size_t{0}, std::size_t{16}, std::size_t{4096}, std::size_t{262144}}) {
    std::vector<unhang::u8> out(room);
    (void)unhang::dump::unpack_lzo(unhang::ByteView(data, size), out);
  }
  return 0;
}
