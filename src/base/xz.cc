#include "base/xz.h"

#include <lzma.h>

namespace unhang {

Result<std::vector<u8>> unpack_xz(ByteView packed, u64 most) {
  lzma_stream stream = LZMA_STREAM_INIT;
  constexpr u64 kMemory = 256 << 20;  // a dictionary that asks for more is an attack or a mistake
  if (lzma_stream_decoder(&stream, kMemory, LZMA_CONCATENATED) != LZMA_OK)
    return fail(Error{.why = Why::io, .detail = "liblzma cannot start"});
  std::vector<u8> out;
  stream.next_in = packed.data();
  stream.avail_in = packed.size();
  lzma_ret r = LZMA_OK;
  while (r == LZMA_OK) {
    const size_t had = out.size();
    if (had >= most) break;
    out.resize(std::min<u64>(most, std::max<u64>(1 << 20, had * 2)));
    stream.next_out = out.data() + had;
    stream.avail_out = out.size() - had;
    r = lzma_code(&stream, LZMA_FINISH);
    out.resize(out.size() - stream.avail_out);
  }
  lzma_end(&stream);
  if (r == LZMA_STREAM_END) return out;
  if (r == LZMA_OK) return fail(Error{.why = Why::limit, .type = "xz file", .detail = "unpacks to too much"});
  return fail(Error{.why = Why::bad_file, .type = "xz file", .detail = "damaged or truncated"});
}

}  // namespace unhang
