// lzop files (libvirt's dump_image_format and save_image_format know "lzop"): a header, then blocks of LZO1X.
// Each block has checksums of its content (lzop 1.04: Adler-32 by default, CRC-32 with --crc32).
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "dump/lzo.h"
#include "dump/stream_decoder.h"

namespace unhang::dump {

namespace {

enum Flag : u32 {
  kAdlerUnpacked = 0x1,
  kAdlerPacked = 0x2,
  kExtra = 0x40,
  kCrcUnpacked = 0x100,
  kCrcPacked = 0x200,
  kMultipart = 0x400,
  kFilter = 0x800,
};
constexpr u32 kUnpackedSums[] = {kAdlerUnpacked, kCrcUnpacked}, kPackedSums[] = {kAdlerPacked, kCrcPacked};
constexpr u32 kMostBlock = 64 << 20;  // lzop's own limit
constexpr size_t kMagic = 9;

class Lzop final : public StreamDecoder {
 public:
  Step step(std::span<const u8> in, std::span<u8> out) override {
    Step s;
    while (true) {
      if (given_ < block_.size()) {
        const size_t n = std::min(out.size() - s.written, block_.size() - given_);
        std::memcpy(out.data() + s.written, block_.data() + given_, n);
        given_ += n;
        s.written += n;
        if (given_ < block_.size()) return s;
      }
      // Collects what the next part needs, then takes it.
      const size_t n = std::min(in.size() - s.read, need_ - part_.size());
      part_.insert(part_.end(), in.begin() + static_cast<std::ptrdiff_t>(s.read),
                   in.begin() + static_cast<std::ptrdiff_t>(s.read + n));
      s.read += n;
      if (n != 0) complete_ = false;
      if (part_.size() < need_) return s;
      if (!take()) {
        s.damaged = true;
        return s;
      }
      if (complete_) return s;
    }
  }
  bool complete() const override { return complete_; }

 private:
  enum class At { header, name, extra, extra_data, sizes, data };

  void expect(At at, size_t need) {
    at_ = at;
    need_ = need;
    part_.clear();
  }

  // Version fields, method, level, flags, mode, times, length of the name: 34 bytes, 4 more with a filter.
  // Files of lzop before 0.94, which lack some fields, are refused.
  bool header() {
    const ByteView p(part_.data(), part_.size());
    const u16 version = p.be<u16>(kMagic).value_or(0);
    flags_ = p.be<u32>(kMagic + 8).value_or(0);
    if (version < 0x0940 || (flags_ & kMultipart) != 0) return false;
    const size_t length_at = kMagic + 12 + ((flags_ & kFilter) != 0 ? 4 : 0) + 12;
    if (part_.size() <= length_at) {
      need_ = length_at + 1;
      return true;
    }
    expect(At::name, part_[length_at] + size_t{4});
    return true;
  }

  bool sizes() {
    const ByteView p(part_.data(), part_.size());
    unpacked_ = p.be<u32>(0).value_or(0);
    if (unpacked_ == 0) {
      complete_ = true;
      expect(At::header, kMagic + 25);
      return true;
    }
    if (part_.size() == 4) {
      need_ = 8;
      return true;
    }
    packed_ = p.be<u32>(4).value_or(0);
    if (unpacked_ > kMostBlock || packed_ > unpacked_ || packed_ == 0) return false;
    sums_ = 0;
    for (const u32 flag : kUnpackedSums) sums_ += (flags_ & flag) != 0 ? 4 : 0;
    if (packed_ < unpacked_)
      for (const u32 flag : kPackedSums) sums_ += (flags_ & flag) != 0 ? 4 : 0;
    expect(At::data, sums_ + packed_);
    return true;
  }

  bool data() {
    const ByteView packed(part_.data() + sums_, packed_);
    block_.resize(unpacked_);
    given_ = 0;
    if (packed_ == unpacked_)
      std::memcpy(block_.data(), packed.data(), packed_);
    else if (unpack_lzo(packed, block_) != unpacked_)
      return false;
    if (!sums_agree()) {
      block_.clear();
      return false;
    }
    expect(At::sizes, 4);
    return true;
  }

  // Those of the content come first, in the order of their flags.
  bool sums_agree() const {
    const ByteView sums(part_.data(), sums_);
    const auto size = static_cast<uInt>(block_.size());
    u64 at = 0;
    for (const u32 flag : kUnpackedSums) {
      if ((flags_ & flag) == 0) continue;
      const uLong is = flag == kAdlerUnpacked ? adler32(adler32(0, nullptr, 0), block_.data(), size)
                                              : crc32(crc32(0, nullptr, 0), block_.data(), size);
      if (is != sums.be<u32>(at).value_or(0)) return false;
      at += 4;
    }
    return true;
  }

  bool take() {
    switch (at_) {
      case At::header:
        return header();
      case At::name:
        if ((flags_ & kExtra) != 0)
          expect(At::extra, 4);
        else
          expect(At::sizes, 4);
        return true;
      case At::extra: {
        const u32 n = ByteView(part_.data(), part_.size()).be<u32>(0).value_or(0);
        if (n > kMostBlock) return false;
        expect(At::extra_data, n + size_t{4});
        return true;
      }
      case At::extra_data:
        expect(At::sizes, 4);
        return true;
      case At::sizes:
        return sizes();
      case At::data:
        return data();
    }
    return false;
  }

  At at_ = At::header;
  size_t need_ = kMagic + 25;
  std::vector<u8> part_;
  std::vector<u8> block_;
  size_t given_ = 0;
  u32 flags_ = 0, unpacked_ = 0, packed_ = 0;
  size_t sums_ = 0;
  bool complete_ = true;
};

}  // namespace

std::unique_ptr<StreamDecoder> make_lzop_decoder() {
  return std::make_unique<Lzop>();
}

}  // namespace unhang::dump
