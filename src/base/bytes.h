// Bounds-checked views of bytes that came out of a file or a dump. Nothing here trusts a length.
#pragma once

#include <bit>
#include <concepts>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/error.h"
#include "base/types.h"

namespace unhang {

static_assert(std::endian::native == std::endian::little, "the host is x86-64 or another little-endian one");

// a + b and a * b, or nothing when they do not fit 64 bits. For sizes and offsets that a file states.
constexpr std::optional<u64> checked_add(u64 a, u64 b) {
  u64 r = 0;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}
constexpr std::optional<u64> checked_mul(u64 a, u64 b) {
  u64 r = 0;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

// A view of bytes with a name for error messages. Reads copy, so alignment never matters.
class ByteView {
 public:
  ByteView() = default;
  explicit ByteView(std::span<const u8> bytes) : bytes_(bytes) {}
  ByteView(const void* data, size_t size) : bytes_(static_cast<const u8*>(data), size) {}

  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  std::span<const u8> span() const { return bytes_; }
  const u8* data() const { return bytes_.data(); }

  bool covers(u64 offset, u64 length) const { return offset <= size() && length <= size() - offset; }

  // The part [offset, offset + length), or nothing when it is not all there.
  std::optional<ByteView> sub(u64 offset, u64 length) const {
    if (!covers(offset, length)) return std::nullopt;
    return ByteView(bytes_.subspan(offset, length));
  }
  // From offset to the end; empty when the offset is beyond it.
  ByteView from(u64 offset) const { return offset >= size() ? ByteView() : ByteView(bytes_.subspan(offset)); }

  // A trivially copyable value at an offset, little-endian as it lies in memory.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  std::optional<T> le(u64 offset) const {
    if (!covers(offset, sizeof(T))) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  // The same, 0 where it is not there: for fields of a structure whose whole length was checked before.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  T at(u64 offset) const {
    return le<T>(offset).value_or(T{});
  }

  template <std::unsigned_integral T>
  std::optional<T> be(u64 offset) const {
    auto v = le<T>(offset);
    if (!v) return std::nullopt;
    if constexpr (sizeof(T) == 1) return v;
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(*v);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(*v);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(*v);
  }

  // Characters up to the first NUL or the end of the view.
  std::string_view c_string(u64 offset, u64 limit = ~u64{0}) const {
    const ByteView rest = from(offset);
    const size_t n = std::min<u64>(rest.size(), limit);
    const auto* p = reinterpret_cast<const char*>(rest.data());
    return n == 0 ? std::string_view{} : std::string_view(p, strnlen(p, n));
  }

  bool starts_with(std::string_view prefix) const {
    return size() >= prefix.size() && std::memcmp(data(), prefix.data(), prefix.size()) == 0;
  }

 private:
  std::span<const u8> bytes_;
};

}  // namespace unhang
