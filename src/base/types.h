// The short integer names that the whole project uses, and the strong address types.
//
// An address in the target is never a plain integer: mixing up a physical and a virtual address is the
// classic bug of memory forensics, and with these types it does not compile.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace unhang {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

inline constexpr u64 kPageSize = 4096;
inline constexpr u64 kPageShift = 12;

// An address of one kind (physical, virtual, relative to an image). Arithmetic wraps, as addresses do in a
// hostile dump; ranges that matter are checked where they are used.
template <class Tag>
class Address {
 public:
  constexpr Address() = default;
  constexpr explicit Address(u64 value) : value_(value) {}

  constexpr u64 value() const { return value_; }
  constexpr bool is_null() const { return value_ == 0; }
  constexpr u64 page_offset() const { return value_ & (kPageSize - 1); }
  constexpr Address page() const { return Address(value_ & ~(kPageSize - 1)); }
  // Bytes from this address to the end of its page: 1..4096.
  constexpr u64 left_in_page() const { return kPageSize - page_offset(); }

  friend constexpr auto operator<=>(Address, Address) = default;
  friend constexpr Address operator+(Address a, u64 n) { return Address(a.value_ + n); }
  friend constexpr Address operator-(Address a, u64 n) { return Address(a.value_ - n); }
  friend constexpr u64 operator-(Address a, Address b) { return a.value_ - b.value_; }
  constexpr Address& operator+=(u64 n) {
    value_ += n;
    return *this;
  }

 private:
  u64 value_ = 0;
};

struct PhysTag;
struct VirtTag;
struct RvaTag;

using PhysAddr = Address<PhysTag>;
using VirtAddr = Address<VirtTag>;
// Offset from an image's base. Stored as 64 bits so that arithmetic on a lying header cannot wrap unnoticed.
using Rva = Address<RvaTag>;

// Page frame number: a physical address divided by 4096.
struct Pfn {
  u64 value = 0;
  friend constexpr auto operator<=>(Pfn, Pfn) = default;
  constexpr PhysAddr address() const { return PhysAddr(value << kPageShift); }
};

// The upper, canonical half: where Windows x64 keeps the kernel. Holds for 4 and for 5 paging levels.
constexpr bool is_kernel(VirtAddr va) {
  return (va.value() >> 63) != 0;
}

// Canonical with 48-bit (4 levels) addresses; with 57 bits the tests are one level wider.
constexpr bool is_canonical(VirtAddr va, int levels = 4) {
  const int shift = levels == 5 ? 56 : 47;
  const i64 high = static_cast<i64>(va.value()) >> shift;
  return high == 0 || high == -1;
}

}  // namespace unhang

template <class Tag>
struct std::hash<unhang::Address<Tag>> {
  std::size_t operator()(unhang::Address<Tag> a) const noexcept {
    // Fibonacci hashing: kernel addresses differ in the middle bits, std::hash of libstdc++ is the identity.
    return static_cast<std::size_t>(a.value() * 0x9E3779B97F4A7C15ULL);
  }
};
