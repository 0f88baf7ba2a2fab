#include "dump/note.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  for (const unhang::u16 machine : {unhang::u16{62}, unhang::u16{3}})
    (void)unhang::dump::read_notes(unhang::ByteView(data, size), machine);
  return 0;
}
