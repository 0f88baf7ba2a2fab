// Decompression of streams of any length, piece by piece: gzip, xz, zstd, bzip2, lz4, lzop.
#pragma once

#include <memory>
#include <span>

#include "base/bytes.h"

namespace unhang::dump {

class StreamDecoder {
 public:
  struct Step {
    size_t read = 0;     // bytes of `in` that were used
    size_t written = 0;  // bytes of `out` that were filled
    bool damaged = false;
    const char* why = nullptr;  // what is wrong, where that is known
  };
  virtual ~StreamDecoder() = default;
  // Uses some of `in` and fills some of `out`. Neither moves only when more input is needed.
  virtual Step step(std::span<const u8> in, std::span<u8> out) = 0;
  // The stream is complete here. Further members (gzip -c a b, pigz, pbzip2, split xz streams) may follow.
  virtual bool complete() const = 0;
};

struct Codec {
  const char* name;  // "gzip"
  bool (*probe)(ByteView head);
  std::unique_ptr<StreamDecoder> (*make)();
};

// By signature; null when the bytes begin like none of them. Needs the first 16 bytes.
const Codec* find_codec(ByteView head);
// Whether what follows a complete stream is more of it.
bool continues(const Codec& codec, ByteView chunk);

std::unique_ptr<StreamDecoder> make_lzop_decoder();

}  // namespace unhang::dump
