// LZO1X decompression (kdump pages, lzop blocks), written from the public description of the bitstream
// (Linux, Documentation/staging/lzo.rst). liblzo2 is GPL-2+; docs/decisions/codecs.md says why it is not
// used.
#pragma once

#include <optional>
#include <span>

#include "base/bytes.h"

namespace unhang::dump {

// Unpacks one block into out and returns how many bytes came. Nothing when the block is damaged, does not end
// where its end mark is, or would yield more than out holds.
std::optional<size_t> unpack_lzo(ByteView packed, std::span<u8> out);

}  // namespace unhang::dump
