// 32-bit parts of threads: the input is the memory that TEBs, context and stack lie in.
#include <cstdlib>

#include "fuzz.h"
#include "stack/wow64.h"

using namespace unhang;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const Memory memory({data, size});
  const stack::FindImage none = [](VirtAddr) { return std::nullopt; };
  stack::Wow64Thread thread{.stack_base = static_cast<u32>(size)};
  if (const auto read = stack::read_wow64_thread(memory, VirtAddr(0))) thread = *read;
  stack::Registers32 r{0x10000, 0, 4};
  if (thread.saved) r = *thread.saved;
  const auto done = stack::unwind_x86(r, Confidence::derived, thread, memory, none);
  if (done.frames.size() > 600 || done.how().empty()) std::abort();
  return 0;
}
