// fmt, and how addresses look: virtual ones as WinDbg prints them, fffff800`02a4c000.
#pragma once

#include <fmt/format.h>

#include <string>

#include "base/types.h"

template <>
struct fmt::formatter<unhang::VirtAddr> {
  constexpr auto parse(fmt::format_parse_context& ctx) { return ctx.begin(); }
  auto format(unhang::VirtAddr a, fmt::format_context& ctx) const {
    return fmt::format_to(ctx.out(), "{:08x}`{:08x}", a.value() >> 32, a.value() & 0xffffffff);
  }
};

namespace unhang {

// 0xfffff80002a4c000: the form of JSON and of everything that people paste into commands.
inline std::string hex(u64 value) {
  return fmt::format("{:#x}", value);
}
inline std::string hex(VirtAddr va) {
  return hex(va.value());
}
inline std::string hex(PhysAddr pa) {
  return hex(pa.value());
}

// "1 process", "12 processes": singular and plural spelled out by the caller.
inline std::string counted(u64 n, const char* one, const char* many) {
  return fmt::format("{} {}", n, n == 1 ? one : many);
}

}  // namespace unhang
