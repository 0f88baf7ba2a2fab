#include "nt/object.h"

#include "memory/read.h"
#include "nt/target.h"

namespace unhang::nt {

Object::Object(const Target& target, VirtAddr va) : target_(&target), va_(va), space_(&target.kernel()) {}

Result<Bound> Object::bind(const MemberLine& member) const {
  return target_->bind(member);
}

Result<VirtAddr> Object::address(const MemberLine& member) const {
  return va_ + TRY(bind(member)).offset;
}

Result<void> Object::read_bytes(const MemberLine& member, const Bound& bound, std::span<u8> out) const {
  target_->record(member, va_, bound);
  if (auto r = memory::read_exact(*space_, va_ + bound.offset, out); !r) {
    Error e = r.error();
    e.type = member.type();
    e.member = member.path();
    return fail(e);
  }
  return {};
}

Result<u64> Object::read_integer(const MemberLine& member, const Bound& bound) const {
  u64 value = 0;
  if (bound.size > 8)
    return fail(Error{.why = Why::layout_mismatch, .type = member.type(), .member = member.path()});
  TRY_VOID(read_bytes(member, bound, {reinterpret_cast<u8*>(&value), bound.size == 0 ? 8 : bound.size}));
  if (bound.bit_length == 0) return value;
  const u64 mask = bound.bit_length >= 64 ? ~u64{0} : (u64{1} << bound.bit_length) - 1;
  return value >> bound.bit_offset & mask;
}

}  // namespace unhang::nt
