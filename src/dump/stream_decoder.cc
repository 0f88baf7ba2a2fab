#include "dump/stream_decoder.h"

#include <bzlib.h>
#include <lz4frame.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <new>

namespace unhang::dump {

namespace {

using Step = StreamDecoder::Step;
using In = std::span<const u8>;
using Out = std::span<u8>;

// zlib and libbz2 count in 32 bits.
constexpr size_t kMostAtOnce = size_t{1} << 30;
unsigned narrow(size_t n) {
  return static_cast<unsigned>(std::min(n, kMostAtOnce));
}

// Decoders that need a fresh start for each member of a stream.
class MemberDecoder : public StreamDecoder {
 public:
  Step step(In in, Out out) final {
    if (complete_ && in.empty()) return {};
    if (complete_ && !restart()) throw std::bad_alloc();
    complete_ = false;
    return member_step(in, out);
  }
  bool complete() const final { return complete_; }

 protected:
  virtual bool restart() = 0;
  virtual Step member_step(In in, Out out) = 0;
  bool complete_ = true;  // nothing has begun
};

class Gzip final : public MemberDecoder {
 public:
  ~Gzip() override { inflateEnd(&s_); }

 private:
  bool restart() override {
    inflateEnd(&s_);
    s_ = {};
    return inflateInit2(&s_, 15 + 16) == Z_OK;
  }
  Step member_step(In in, Out out) override {
    s_.next_in = const_cast<u8*>(in.data());
    s_.avail_in = narrow(in.size());
    s_.next_out = out.data();
    s_.avail_out = narrow(out.size());
    const unsigned had_in = s_.avail_in, had_out = s_.avail_out;
    const int r = inflate(&s_, Z_NO_FLUSH);
    complete_ = r == Z_STREAM_END;
    return {.read = had_in - s_.avail_in,
            .written = had_out - s_.avail_out,
            .damaged = r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR};
  }
  z_stream s_{};
};

class Bzip2 final : public MemberDecoder {
 public:
  ~Bzip2() override { BZ2_bzDecompressEnd(&s_); }

 private:
  bool restart() override {
    BZ2_bzDecompressEnd(&s_);
    s_ = {};
    return BZ2_bzDecompressInit(&s_, 0, 0) == BZ_OK;
  }
  Step member_step(In in, Out out) override {
    s_.next_in = reinterpret_cast<char*>(const_cast<u8*>(in.data()));
    s_.avail_in = narrow(in.size());
    s_.next_out = reinterpret_cast<char*>(out.data());
    s_.avail_out = narrow(out.size());
    const unsigned had_in = s_.avail_in, had_out = s_.avail_out;
    const int r = BZ2_bzDecompress(&s_);
    complete_ = r == BZ_STREAM_END;
    return {.read = had_in - s_.avail_in,
            .written = had_out - s_.avail_out,
            .damaged = r != BZ_OK && r != BZ_STREAM_END};
  }
  bz_stream s_{};
};

class Xz final : public MemberDecoder {
 public:
  ~Xz() override { lzma_end(&s_); }

 private:
  bool restart() override {
    // xz -9 needs 65 MiB; a dictionary that asks for more than this is an attack or a mistake.
    constexpr u64 kMemory = 512 << 20;
    return lzma_stream_decoder(&s_, kMemory, 0) == LZMA_OK;
  }
  Step member_step(In in, Out out) override {
    s_.next_in = in.data();
    s_.avail_in = in.size();
    s_.next_out = out.data();
    s_.avail_out = out.size();
    const lzma_ret r = lzma_code(&s_, LZMA_RUN);
    complete_ = r == LZMA_STREAM_END;
    return {.read = in.size() - s_.avail_in,
            .written = out.size() - s_.avail_out,
            .damaged = r != LZMA_OK && r != LZMA_STREAM_END && r != LZMA_BUF_ERROR,
            .why = r == LZMA_MEMLIMIT_ERROR ? "needs more than 512 MiB to be unpacked: unpack it with `xz -d`"
                                            : nullptr};
  }
  lzma_stream s_ = LZMA_STREAM_INIT;
};

// libzstd's own bound on windows (128 MiB, `zstd --long=27`) stays: more memory only for the asking is no
// deal.
class Zstd final : public StreamDecoder {
 public:
  Zstd() : s_(ZSTD_createDStream()) {
    if (s_ == nullptr) throw std::bad_alloc();
  }
  ~Zstd() override { ZSTD_freeDStream(s_); }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;

  Step step(In in, Out out) override {
    ZSTD_inBuffer i{in.data(), in.size(), 0};
    ZSTD_outBuffer o{out.data(), out.size(), 0};
    const size_t r = ZSTD_decompressStream(s_, &o, &i);
    complete_ = r == 0 || (complete_ && i.pos == 0);
    return {.read = i.pos,
            .written = o.pos,
            .damaged = ZSTD_isError(r) != 0,
            .why = ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_windowTooLarge
                       ? "needs a window of more than 128 MiB: unpack it with `zstd -d --long=31`"
                       : nullptr};
  }
  bool complete() const override { return complete_; }

 private:
  ZSTD_DStream* s_;
  bool complete_ = true;
};

class Lz4 final : public StreamDecoder {
 public:
  Lz4() {
    if (LZ4F_isError(LZ4F_createDecompressionContext(&s_, LZ4F_VERSION)) != 0) throw std::bad_alloc();
  }
  ~Lz4() override { LZ4F_freeDecompressionContext(s_); }
  Lz4(const Lz4&) = delete;
  Lz4& operator=(const Lz4&) = delete;

  Step step(In in, Out out) override {
    size_t read = in.size(), written = out.size();
    const size_t r = LZ4F_decompress(s_, out.data(), &written, in.data(), &read, nullptr);
    if (LZ4F_isError(r) != 0) return {.damaged = true};
    complete_ = r == 0 || (complete_ && read == 0);
    return {.read = read, .written = written};
  }
  bool complete() const override { return complete_; }

 private:
  LZ4F_dctx* s_ = nullptr;
  bool complete_ = true;
};

template <class T>
std::unique_ptr<StreamDecoder> make() {
  return std::make_unique<T>();
}

using namespace std::string_view_literals;

// A frame that zstd and lz4 both have, for data of others: 50..5f 2a 4d 18, length, data (RFC 8878, 3.1.2).
// pzstd begins with one.
bool is_skippable(ByteView h) {
  return (h.at<u8>(0) & 0xf0) == 0x50 && h.from(1).starts_with("\x2a\x4d\x18"sv);
}

constexpr Codec kCodecs[] = {
    {"gzip", [](ByteView h) { return h.starts_with("\x1f\x8b\x08"sv); }, make<Gzip>},
    {"xz",
     [](ByteView h) {
       return h.starts_with(
           "\xfd"
           "7zXZ\0"sv);
     },
     make<Xz>},
    {"zstd", [](ByteView h) { return h.starts_with("\x28\xb5\x2f\xfd"sv) || is_skippable(h); }, make<Zstd>},
    {"bzip2",
     [](ByteView h) {
       return h.starts_with("BZh"sv) && h.at<u8>(3) >= '1' && h.at<u8>(3) <= '9' &&
              (h.from(4).starts_with("1AY&SY"sv) || h.from(4).starts_with("\x17\x72\x45\x38\x50\x90"sv));
     },
     make<Bzip2>},
    {"lz4", [](ByteView h) { return h.starts_with("\x04\x22\x4d\x18"sv); }, make<Lz4>},
    {"lzop", [](ByteView h) { return h.starts_with("\x89LZO\0\r\n\x1a\n"sv); }, make_lzop_decoder},
};

}  // namespace

const Codec* find_codec(ByteView head) {
  // Whose frame it is tells the one behind it, if that is in sight.
  constexpr u64 kInSight = 1 << 20;  // of a pipe no more is at hand
  ByteView h = *head.sub(0, std::min<u64>(head.size(), kInSight));
  for (int frames = 0; frames < 16 && is_skippable(h); frames++) {
    h = h.from(8 + u64{h.at<u32>(4)});
    for (const Codec& c : kCodecs)
      if (!is_skippable(h) && c.probe(h)) return &c;
  }
  for (const Codec& c : kCodecs)
    if (c.probe(head)) return &c;
  return nullptr;
}

bool continues(const Codec& codec, ByteView chunk) {
  const bool has_skippable = codec.name == "zstd"sv || codec.name == "lz4"sv;
  return codec.probe(chunk) || (has_skippable && is_skippable(chunk));
}

}  // namespace unhang::dump
