// A file without a name that takes what is unpacked or comes out of a pipe. It is gone when it is closed,
// also when the program is killed.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace unhang::dump {

struct SpoolOptions {
  // Empty: $TMPDIR, else /var/tmp (a dump of a large guest does not fit a /tmp in memory).
  std::string folder;
  // Free space that is never touched; 0: a twentieth of the file system, at most 4 GiB.
  u64 reserve = 0;
  // The most bytes that come out, holes included. No guest is larger.
  u64 most = u64{1} << 44;
};

class Spool {
 public:
  // Errors: io.
  static Result<Spool> create(const SpoolOptions& options);
  Spool(Spool&& other) noexcept;
  Spool& operator=(Spool&&) = delete;
  ~Spool();

  // Appends. Blocks of zeros become holes. Errors: io (disk full up to the reserve), limit.
  Result<void> write(std::span<const u8> bytes);
  u64 size() const { return size_; }
  // The finished file; nothing may be written after it. Errors: io, bad_file (empty).
  Result<std::shared_ptr<const File>> finish(std::string name);

 private:
  Spool() = default;
  Result<void> flush();
  Result<void> check_space();

  int fd_ = -1;
  u64 reserve_ = 0;
  u64 most_ = 0;
  u64 size_ = 0;            // bytes that came
  u64 flushed_ = 0;         // bytes that are in the file
  u64 written_ = 0;         // bytes that took space
  u64 next_check_ = 0;      // value of written_ at which space is looked at again
  std::vector<u8> buffer_;  // the tail that is not in the file yet
};

}  // namespace unhang::dump
