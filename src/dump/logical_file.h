// A file as its format describes it: either the mapped file itself, or one that makedumpfile and QEMU wrote
// "flattened" to a pipe, as segments {offset, size, data} (FORMATS 1.3).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/progress.h"

namespace unhang::dump {

class LogicalFile {
 public:
  static LogicalFile plain(std::shared_ptr<const File> file);
  static bool is_flattened(const File& file);
  // Reads all segment headers once, in the order of the file, and looks at nothing else of it. Takes 56 bytes
  // of memory for each segment while it does, 24 afterwards. Errors: bad_file, unsupported, limit (more
  // segments than any dump has, or progress said stop).
  static Result<LogicalFile> flattened(std::shared_ptr<const File> file, const Progress& progress = {});

  // One past the last byte that exists.
  u64 size() const { return size_; }
  bool flattened() const { return flattened_; }
  // The segments end without the end mark, or inside a segment.
  bool truncated() const { return truncated_; }

  // Exactly room.size() bytes from an offset: a view of the mapped file where they lie together, else
  // collected in room. Nothing when some of them do not exist. Thread-safe.
  std::optional<ByteView> read(u64 offset, std::span<u8> room) const;
  // A view of the mapped file when the bytes lie together in it.
  std::optional<ByteView> in_place(u64 offset, u64 size) const;
  // Where a byte lies in the mapped file.
  std::optional<u64> file_offset(u64 offset) const;
  void will_read(u64 offset, u64 size) const;

 private:
  struct Segment {
    u64 start = 0;  // in the file that was meant
    u64 size = 0;
    u64 offset = 0;  // in the file that is there
    void skip(u64 n) {
      start += n;
      offset += n;
      size -= n;
    }
  };

  std::shared_ptr<const File> file_;
  std::vector<Segment> segments_;  // sorted, disjoint; empty for a plain file
  u64 size_ = 0;
  bool flattened_ = false;
  bool truncated_ = false;
};

}  // namespace unhang::dump
