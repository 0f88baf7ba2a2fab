// Cabinet files: symbol servers keep "ntkrnlmp.pd_", a cabinet with one file, MSZIP or LZX.
// Source of the container's form: [MS-CAB]. libmspack does the decompression.
#pragma once

#include <functional>
#include <span>

#include "base/bytes.h"
#include "base/error.h"

namespace unhang::symbols {

bool is_cabinet(ByteView bytes);

// Gives the first file's bytes to the sink, which says whether to go on. Returns how many there were.
// Errors: bad_file (damaged, or it lies about sizes), limit (more than `most`), io (the sink said no).
Result<u64> unpack_cabinet(ByteView bytes, u64 most, const std::function<bool(std::span<const u8>)>& sink);

}  // namespace unhang::symbols
