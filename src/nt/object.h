// An object in the target: an address and the space it lies in. Members are read by their lines.
#pragma once

#include <optional>

#include "base/confidence.h"
#include "memory/read.h"
#include "nt/member.h"

namespace unhang::nt {

class Target;

// A member line bound to one target.
struct Bound {
  u32 offset = 0;
  u32 size = 0;
  u8 bit_offset = 0;
  u8 bit_length = 0;
  Confidence confidence = Confidence::guess;
  const char* source = "";
};

// What a member's value is in C++.
template <class T>
struct ValueOf {
  using type = T;
};
template <>
struct ValueOf<AnyInteger> {
  using type = u64;
};

class Object {
 public:
  Object(const Target& target, VirtAddr va);
  Object(const Target& target, VirtAddr va, const Source<VirtAddr>& space)
      : target_(&target), va_(va), space_(&space) {}

  VirtAddr va() const { return va_; }
  const Target& target() const { return *target_; }
  const Source<VirtAddr>& space() const { return *space_; }

  // The value. Errors: no_member, layout_mismatch, those of reading; type and member are set.
  template <class T>
  Result<typename ValueOf<T>::type> operator[](const Member<T>& member) const {
    const Bound b = TRY(bind(member));
    if (b.bit_length != 0 || std::is_same_v<T, AnyInteger>) {
      const u64 v = TRY(read_integer(member, b));
      if constexpr (std::is_same_v<T, AnyInteger>)
        return v;
      else if constexpr (std::is_integral_v<T>)
        return static_cast<T>(v);
      else
        return fail(Error{.why = Why::layout_mismatch, .type = member.type(), .member = member.path()});
    } else if constexpr (!std::is_same_v<T, AnyInteger>) {
      T value;
      TRY_VOID(read_bytes(member, b, {reinterpret_cast<u8*>(&value), sizeof value}));
      return value;
    }
  }

  // The value, or nothing: for members that a report can do without.
  template <class T>
  std::optional<typename ValueOf<T>::type> maybe(const Member<T>& member) const {
    auto v = (*this)[member];
    if (!v) return std::nullopt;
    return *v;
  }
  template <class T>
  typename ValueOf<T>::type value_or(const Member<T>& member, typename ValueOf<T>::type otherwise) const {
    return (*this)[member].value_or(otherwise);
  }

  // Where a member lies. Errors: no_member.
  Result<VirtAddr> address(const MemberLine& member) const;
  // Whether this target has the member at all.
  bool has(const MemberLine& member) const { return bind(member).has_value(); }
  Result<Bound> bind(const MemberLine& member) const;

 private:
  Result<u64> read_integer(const MemberLine& member, const Bound& bound) const;
  Result<void> read_bytes(const MemberLine& member, const Bound& bound, std::span<u8> out) const;

  const Target* target_;
  VirtAddr va_;
  const Source<VirtAddr>* space_;
};

}  // namespace unhang::nt
