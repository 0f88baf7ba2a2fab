// UTF-16LE, as Windows keeps text, to UTF-8.
#pragma once

#include <span>
#include <string>

#include "base/types.h"

namespace unhang {

// Unpaired surrogates become U+FFFD; an odd last byte is dropped. Control characters become '?': names come
// from a hostile dump and go to a terminal.
std::string utf16_to_utf8(std::span<const u8> bytes);

// The same care for 8-bit text: bytes outside of printable ASCII become '?'.
std::string printable(std::string_view text);

}  // namespace unhang
