// A file that appears under its name when it is whole, and not at all when the run is interrupted.
#pragma once

#include <span>
#include <string>

#include "base/error.h"
#include "base/file.h"

namespace unhang::dump {

class OutputFile {
 public:
  // Errors: io (no such folder, no permission), unsupported (the path is a device or a folder).
  static Result<OutputFile> create(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  // Both may be called from several threads at once. What is never written reads as zeros. Errors: io.
  Result<void> write(u64 offset, std::span<const u8> bytes) const;
  // Shared or copied by the file system where it can; holes stay holes. room: for what must be read and
  // written, a megabyte is enough. Errors: also bad_file, the dump became shorter meanwhile.
  Result<void> copy(const File& from, u64 from_offset, u64 offset, u64 size, std::span<u8> room) const;
  Result<void> set_size(u64 size) const;
  // The file gets its name, replacing another of that name. Errors: io.
  Result<void> commit();

 private:
  OutputFile() = default;
  std::string path_;
  std::string temporary_;  // its name until then; empty: it has none
  int fd_ = -1;
};

}  // namespace unhang::dump
