#include "dump/lzo.h"

#include <cstring>

namespace unhang::dump {

namespace {

// The stream is a sequence of instructions "copy `length` bytes from `distance` back, then `literals` bytes
// of the stream itself". What a first byte below 16 means depends on how many literals went before it:
//   none     a long run of literals
//   1 to 3   2 bytes from at most 1 KiB back
//   4, more  3 bytes from 2 to 3 KiB back
constexpr size_t kManyLiterals = 4;

class Lzo {
 public:
  Lzo(ByteView in, std::span<u8> out) : in_(in.span()), out_(out) {}

  std::optional<size_t> run() {
    if (!first_byte()) return std::nullopt;
    while (!ended_)
      if (!step()) return std::nullopt;
    // Bytes behind the end mark: the block was cut at the wrong place.
    if (at_ != in_.size()) return std::nullopt;
    return done_;
  }

 private:
  bool first_byte() {
    if (in_.empty()) return false;
    // 18 and up: literals at once, in number (byte - 17). Below, an ordinary instruction follows.
    if (in_[0] < 18) return true;
    const size_t n = in_[0] - size_t{17};
    at_ = 1;
    state_ = n < kManyLiterals ? n : kManyLiterals;
    return literals(n);
  }

  bool byte(size_t& value) {
    if (at_ >= in_.size()) return false;
    value = in_[at_++];
    return true;
  }

  // A length field that is 0 goes on: each zero byte adds 255, the first other byte ends it.
  bool long_length(size_t field, size_t base, size_t& length) {
    length = field;
    if (field != 0) return true;
    length = base;
    for (size_t b = 0; byte(b);) {
      length += b == 0 ? 255 : b;
      if (b != 0) return true;
      if (length > out_.size()) return false;
    }
    return false;
  }

  bool literals(size_t n) {
    if (n > in_.size() - at_ || n > out_.size() - done_) return false;
    std::memcpy(out_.data() + done_, in_.data() + at_, n);
    at_ += n;
    done_ += n;
    return true;
  }

  bool copy(size_t distance, size_t length) {
    if (distance == 0 || distance > done_ || length > out_.size() - done_) return false;
    // Byte by byte where they overlap: a distance of 1 repeats the last byte.
    u8* to = out_.data() + done_;
    const u8* from = to - distance;
    if (distance >= length) {
      std::memcpy(to, from, length);
    } else {
      for (size_t i = 0; i < length; i++) to[i] = from[i];
    }
    done_ += length;
    return true;
  }

  bool copy_then(size_t distance, size_t length, size_t trailing) {
    state_ = trailing;
    return copy(distance, length) && literals(trailing);
  }

  // 16 bits: 14 of distance, 2 of trailing literals.
  bool distance16(size_t& distance, size_t& trailing) {
    size_t low = 0, high = 0;
    if (!byte(low) || !byte(high)) return false;
    const size_t both = low | high << 8;
    distance = both >> 2;
    trailing = both & 3;
    return true;
  }

  bool step() {
    size_t op = 0;
    if (!byte(op)) return false;
    if (op < 16) return step_short(op);
    size_t length = 0, distance = 0, trailing = 0;
    if (op < 32) {
      if (!long_length(op & 7, 7, length) || !distance16(distance, trailing)) return false;
      distance += size_t{16384} + ((op & 8) << 11);
      if (distance == 16384) return ended_ = true;
      return copy_then(distance, length + 2, trailing);
    }
    if (op < 64) {
      if (!long_length(op & 31, 31, length) || !distance16(distance, trailing)) return false;
      return copy_then(distance + 1, length + 2, trailing);
    }
    size_t high = 0;
    if (!byte(high)) return false;
    length = op < 128 ? 3 + (op >> 5 & 1) : 5 + (op >> 5 & 3);
    return copy_then((high << 3) + (op >> 2 & 7) + 1, length, op & 3);
  }

  bool step_short(size_t op) {
    if (state_ == 0) {
      size_t length = 0;
      if (!long_length(op, 15, length)) return false;
      state_ = kManyLiterals;
      return literals(length + 3);
    }
    size_t high = 0;
    if (!byte(high)) return false;
    const size_t distance = (high << 2) + (op >> 2) + 1;
    return state_ == kManyLiterals ? copy_then(distance + 2048, 3, op & 3) : copy_then(distance, 2, op & 3);
  }

  std::span<const u8> in_;
  std::span<u8> out_;
  size_t at_ = 0;    // in in_
  size_t done_ = 0;  // in out_
  size_t state_ = 0;
  bool ended_ = false;
};

}  // namespace

std::optional<size_t> unpack_lzo(ByteView packed, std::span<u8> out) {
  return Lzo(packed, out).run();
}

}  // namespace unhang::dump
