// Compressed pages: one call unpacks one page. Used by kdump files.
#pragma once

#include <span>
#include <string_view>

#include "base/bytes.h"

namespace unhang::dump {

// Values of the flag word of a kdump page descriptor (FORMATS 1.3; makedumpfile).
enum class PageCodec : u32 { raw = 0, zlib = 1, lzo = 2, snappy = 4, zstd = 0x20 };

std::string_view name(PageCodec codec);

// Unpacks to exactly one page; false when the data is damaged or yields another size. Thread-safe.
bool unpack_page(PageCodec codec, ByteView packed, std::span<u8, kPageSize> page);

}  // namespace unhang::dump
