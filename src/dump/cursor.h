// Reading a stream of big-endian fields from front to back. Past the end everything reads as 0 and ok() is
// false.
#pragma once

#include <string_view>

#include "base/bytes.h"

namespace unhang::dump {

class Cursor {
 public:
  Cursor(ByteView bytes, u64 at) : bytes_(bytes), at_(at) {}

  u64 at() const { return at_; }
  bool ok() const { return ok_; }
  bool ended() const { return at_ >= bytes_.size(); }
  void seek(u64 at) { at_ = at; }

  u8 byte() { return number<u8>(); }
  u16 be16() { return number<u16>(); }
  u32 be32() { return number<u32>(); }
  u64 be64() { return number<u64>(); }
  ByteView take(u64 size) {
    const auto view = bytes_.sub(at_, size);
    ok_ = ok_ && view.has_value();
    if (!ok_) return {};
    at_ += size;
    return *view;
  }
  // A length byte, then as many characters.
  std::string_view name() {
    const ByteView v = take(byte());
    return {reinterpret_cast<const char*>(v.data()), v.size()};
  }

 private:
  template <class T>
  T number() {
    const auto v = bytes_.be<T>(at_);
    ok_ = ok_ && v.has_value();
    if (!ok_) return 0;
    at_ += sizeof(T);
    return *v;
  }

  ByteView bytes_;
  u64 at_;
  bool ok_ = true;
};

}  // namespace unhang::dump
