// A file on the host, mapped read-only. Mapping a terabyte costs the same as mapping a page.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace unhang {

// A stretch of a file that holds data; what lies between stretches are holes that read as zeros.
struct Extent {
  u64 offset = 0;
  u64 size = 0;
};

class File {
 public:
  // Errors: io (missing, unreadable, a directory), bad_file (empty).
  static Result<std::shared_ptr<const File>> open(const std::string& path);
  // Takes an open descriptor (a spool file without a name, standard input that is a file). The name is for
  // messages. Closes the descriptor, also on errors, which are open's.
  static Result<std::shared_ptr<const File>> from_fd(int fd, std::string name);
  // Bytes that are already in memory, for tests and fuzzing.
  static std::shared_ptr<const File> from_bytes(std::vector<u8> bytes, std::string name);
  // Bytes that stay where they are as long as the program runs.
  static std::shared_ptr<const File> from_static(ByteView bytes, std::string name);

  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  ByteView bytes() const { return bytes_; }
  u64 size() const { return bytes_.size(); }
  // For copying inside of the kernel; -1 when the bytes are in memory only.
  int descriptor() const { return fd_; }
  // Where data is (SEEK_DATA/SEEK_HOLE), in order, cut to [offset, offset+size). The whole stretch where
  // the file system cannot tell. Stops at limit extents and then returns the rest as one.
  std::vector<Extent> data_extents(u64 offset, u64 size, size_t limit = 1u << 20) const;
  // Tells the kernel to fetch a stretch ahead of its use.
  void will_read(u64 offset, u64 size) const;
  // Gives back the memory that a stretch took in this process. Its bytes can be read as before.
  void forget(u64 offset, u64 size) const;

 private:
  File() = default;
  std::string path_;
  std::vector<u8> owned_;
  int fd_ = -1;
  ByteView bytes_;
};

}  // namespace unhang
