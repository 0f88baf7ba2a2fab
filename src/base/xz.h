// Unpacking of .xz streams with liblzma.
#pragma once

#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace unhang {

// The whole stream unpacked. Errors: bad_file (damaged), limit (more than `most` bytes come out).
Result<std::vector<u8>> unpack_xz(ByteView packed, u64 most);

}  // namespace unhang
