// Dumps that come compressed or through a pipe: unpacked to a spool file first, because analysis jumps about.
#pragma once

#include "base/progress.h"
#include "dump/spool.h"

namespace unhang::dump {

struct OpenOptions {
  Progress progress;
  SpoolOptions spool;
};

struct Unpacked {
  std::shared_ptr<const File> file;
  std::string how;        // "gzip"; empty when it was not compressed
  std::vector<Gap> gaps;  // the stream was truncated or damaged, and this is what came out until there
};

// Whether the file begins like gzip, xz, zstd, bzip2, lz4 or lzop. Signature, not name.
bool is_compressed(const File& file);

// Unpacks the stream that begins at an offset of a file. Errors: unsupported (no known signature), bad_file
// (nothing came out), io (no space), limit (too much came out, or progress said stop).
Result<Unpacked> unpack(std::shared_ptr<const File> file, u64 offset, const OpenOptions& options);

// The same for a descriptor that can only be read once: a pipe. What is not compressed is copied.
Result<Unpacked> unpack_pipe(int fd, const std::string& name, const OpenOptions& options);

}  // namespace unhang::dump
