#include "dump/writers/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/format.h"

namespace unhang::dump {

namespace {

std::unexpected<Error> io_error(const char* what) {
  return fail(Error{.why = Why::io, .detail = what, .os_error = errno});
}

std::string folder_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// Whether this process has the file open: the dump, or what belongs to it (VMware's .vmem, a disk's layer).
bool is_open(const struct stat& file) {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", none)) {
    struct stat st{};
    if (stat(entry.path().c_str(), &st) == 0 && st.st_dev == file.st_dev && st.st_ino == file.st_ino)
      return true;
  }
  return false;
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::string& path) {
  struct stat st{};
  if (stat(path.c_str(), &st) == 0) {
    if (!S_ISREG(st.st_mode))
      return fail(Error{.why = Why::unsupported, .detail = "the output must be a plain file"});
    if (is_open(st))
      return fail(
          Error{.why = Why::unsupported, .detail = "the dump is read from this file: name another one"});
  }
  OutputFile out;
  out.path_ = path;
  // A file without a name vanishes by itself, whatever ends the run. Some file systems cannot (NFS, 9p).
  out.fd_ = open(folder_of(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
  if (out.fd_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    out.temporary_ = fmt::format("{}.{}.partial", path, getpid());
    out.fd_ = open(out.temporary_.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
  }
  if (out.fd_ < 0) return io_error("cannot create the output file");
  return out;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)), fd_(other.fd_) {
  other.fd_ = -1;
  other.temporary_.clear();
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Result<void> OutputFile::write(u64 offset, std::span<const u8> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return io_error("cannot write the output file");
    offset += static_cast<u64>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Result<void> OutputFile::copy(const File& from, u64 from_offset, u64 offset, u64 size,
                              std::span<u8> room) const {
  const auto shorter =
      fail(Error{.why = Why::bad_file, .detail = "the dump became shorter while it was read"});
  if (from.descriptor() < 0) {
    const auto bytes = from.bytes().sub(from_offset, size);
    if (!bytes) return shorter;
    return write(offset, bytes->span());
  }
  for (const Extent& e : from.data_extents(from_offset, size)) {
    off_t in = static_cast<off_t>(e.offset), to = static_cast<off_t>(offset + (e.offset - from_offset));
    u64 left = e.size;
    // XFS and btrfs share the blocks. Elsewhere the kernel copies from cache to cache, once instead of twice:
    // Linux 6.18 with ext4, half of the time of reading and writing on one machine, 14 % more of it on
    // another.
    while (left > 0) {
      const ssize_t n = copy_file_range(from.descriptor(), &in, fd_, &to, left, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT))
        return io_error("cannot write the output file");
      if (n <= 0) break;  // from another file system, old kernels: by hand
      left -= static_cast<u64>(n);
    }
    while (left > 0) {
      // By reading, not from the mapping: a fault for each page costs more than the copy.
      const ssize_t n = pread(from.descriptor(), room.data(), std::min<u64>(left, room.size()), in);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error("cannot read the dump");
      if (n == 0) return shorter;
      TRY_VOID(write(static_cast<u64>(to), room.first(static_cast<size_t>(n))));
      in += n;
      to += n;
      left -= static_cast<u64>(n);
    }
  }
  return {};
}

Result<void> OutputFile::set_size(u64 size) const {
  if (ftruncate(fd_, static_cast<off_t>(size)) != 0) return io_error("cannot write the output file");
  return {};
}

Result<void> OutputFile::commit() {
  if (temporary_.empty()) {
    temporary_ = fmt::format("{}.{}.partial", path_, getpid());
    const std::string open_file = fmt::format("/proc/self/fd/{}", fd_);
    if (linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      temporary_.clear();
      return io_error("cannot name the output file");
    }
  }
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return io_error("cannot name the output file");
  temporary_.clear();
  return {};
}

}  // namespace unhang::dump
