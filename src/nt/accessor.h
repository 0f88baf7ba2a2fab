// What the kernel's own code says of its structures: exported functions that return one member hold its
// offset. Names: public documentation and the kernel's export table.
#pragma once

#include <optional>
#include <span>

#include "base/types.h"

namespace unhang::nt {

struct Accessor {
  const char* function;
  const char* type;
  const char* path;
};
std::span<const Accessor> accessors();

// The offset of the member that an accessor function returns, from its code: "mov rax, [rcx+disp]; ret" and
// its like. Nothing when the code has another form.
std::optional<u32> offset_in_code(std::span<const u8> code);

}  // namespace unhang::nt
