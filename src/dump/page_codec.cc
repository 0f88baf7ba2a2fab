#include "dump/page_codec.h"

#include <libdeflate.h>
#include <snappy-c.h>
#include <zstd.h>

#include <cstring>
#include <memory>
#include <new>

#include "dump/lzo.h"

namespace unhang::dump {

namespace {

struct Free {
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
  void operator()(ZSTD_DCtx* d) const { ZSTD_freeDCtx(d); }
};

// libdeflate is more than twice as fast as zlib on pages, but cannot stream; its state is one a thread.
bool unpack_zlib(ByteView packed, std::span<u8, kPageSize> page) {
  thread_local const std::unique_ptr<libdeflate_decompressor, Free> state(libdeflate_alloc_decompressor());
  if (!state) throw std::bad_alloc();
  return libdeflate_zlib_decompress(state.get(), packed.data(), packed.size(), page.data(), page.size(),
                                    nullptr) == LIBDEFLATE_SUCCESS;
}

bool unpack_zstd(ByteView packed, std::span<u8, kPageSize> page) {
  thread_local const std::unique_ptr<ZSTD_DCtx, Free> state(ZSTD_createDCtx());
  if (!state) throw std::bad_alloc();
  return ZSTD_decompressDCtx(state.get(), page.data(), page.size(), packed.data(), packed.size()) ==
         page.size();
}

bool unpack_snappy(ByteView packed, std::span<u8, kPageSize> page) {
  const char* in = reinterpret_cast<const char*>(packed.data());
  size_t size = 0;
  if (snappy_uncompressed_length(in, packed.size(), &size) != SNAPPY_OK || size != page.size()) return false;
  return snappy_uncompress(in, packed.size(), reinterpret_cast<char*>(page.data()), &size) == SNAPPY_OK &&
         size == page.size();
}

}  // namespace

std::string_view name(PageCodec codec) {
  switch (codec) {
    case PageCodec::raw:
      return "uncompressed";
    case PageCodec::zlib:
      return "zlib";
    case PageCodec::lzo:
      return "lzo";
    case PageCodec::snappy:
      return "snappy";
    case PageCodec::zstd:
      return "zstd";
  }
  return "unknown codec";
}

bool unpack_page(PageCodec codec, ByteView packed, std::span<u8, kPageSize> page) {
  switch (codec) {
    case PageCodec::raw:
      if (packed.size() != page.size()) return false;
      std::memcpy(page.data(), packed.data(), page.size());
      return true;
    case PageCodec::zlib:
      return unpack_zlib(packed, page);
    case PageCodec::lzo:
      return unpack_lzo(packed, page) == page.size();
    case PageCodec::snappy:
      return unpack_snappy(packed, page);
    case PageCodec::zstd:
      return unpack_zstd(packed, page);
  }
  return false;
}

}  // namespace unhang::dump
