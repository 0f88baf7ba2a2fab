#include "dump/spool.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace unhang::dump {

namespace {

constexpr size_t kBuffer = 1 << 20;
constexpr u64 kCheckEvery = 64 << 20;

std::unexpected<Error> io_error(const char* what, int error) {
  return fail(Error{.why = Why::io, .detail = what, .os_error = error});
}

std::string default_folder() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/var/tmp";
}

int open_unnamed(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  // NFS and old file systems have no O_TMPFILE.
  std::string name = folder + "/unhang-XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) unlink(name.c_str());
  return named;
}

bool all_zero(const u8* p, size_t n) {
  return p[0] == 0 && std::memcmp(p, p + 1, n - 1) == 0;
}

}  // namespace

Spool::Spool(Spool&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      reserve_(other.reserve_),
      most_(other.most_),
      size_(other.size_),
      flushed_(other.flushed_),
      written_(other.written_),
      next_check_(other.next_check_),
      buffer_(std::move(other.buffer_)) {}

Spool::~Spool() {
  if (fd_ >= 0) close(fd_);
}

Result<Spool> Spool::create(const SpoolOptions& options) {
  Spool s;
  s.fd_ = open_unnamed(options.folder.empty() ? default_folder() : options.folder);
  if (s.fd_ < 0) return io_error("cannot make a temporary file (TMPDIR, else /var/tmp)", errno);
  struct statvfs fs{};
  if (fstatvfs(s.fd_, &fs) != 0) return io_error("cannot tell the free space of the temporary folder", errno);
  constexpr u64 kMostReserve = u64{4} << 30;
  s.reserve_ = options.reserve != 0 ? options.reserve
                                    : std::min<u64>(u64{fs.f_blocks} * fs.f_frsize / 20, kMostReserve);
  s.most_ = options.most;
  s.buffer_.reserve(kBuffer);
  TRY_VOID(s.check_space());
  return s;
}

Result<void> Spool::check_space() {
  struct statvfs fs{};
  if (fstatvfs(fd_, &fs) != 0) return io_error("cannot tell the free space of the temporary folder", errno);
  const u64 free = u64{fs.f_bavail} * fs.f_frsize;
  if (free < reserve_ + kBuffer)
    return io_error("not enough free space to unpack it: set TMPDIR to a folder on a larger disk", ENOSPC);
  next_check_ = written_ + std::min(kCheckEvery, free - reserve_);
  return {};
}

Result<void> Spool::write(std::span<const u8> bytes) {
  if (bytes.size() > most_ - size_)
    return fail(Error{
        .why = Why::limit, .type = "compressed file", .detail = "it unpacks to more than any dump has"});
  size_ += bytes.size();
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), kBuffer - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    bytes = bytes.subspan(n);
    if (buffer_.size() == kBuffer) TRY_VOID(flush());
  }
  return {};
}

Result<void> Spool::flush() {
  // Stretches of blocks that are not zero, each with one write.
  size_t at = 0;
  while (at < buffer_.size()) {
    const auto block = [&](size_t i) { return std::min<size_t>(kPageSize, buffer_.size() - i); };
    if (all_zero(buffer_.data() + at, block(at))) {
      at += block(at);
      continue;
    }
    size_t end = at;
    while (end < buffer_.size() && !all_zero(buffer_.data() + end, block(end))) end += block(end);
    while (at < end) {
      const ssize_t n = pwrite(fd_, buffer_.data() + at, end - at, static_cast<off_t>(flushed_ + at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return io_error("cannot write the temporary file", n == 0 ? ENOSPC : errno);
      at += static_cast<size_t>(n);
      written_ += static_cast<u64>(n);
    }
    if (written_ >= next_check_) TRY_VOID(check_space());
  }
  flushed_ += buffer_.size();
  buffer_.clear();
  return {};
}

Result<std::shared_ptr<const File>> Spool::finish(std::string name) {
  TRY_VOID(flush());
  if (ftruncate(fd_, static_cast<off_t>(size_)) != 0)
    return io_error("cannot write the temporary file", errno);
  return File::from_fd(std::exchange(fd_, -1), std::move(name));
}

}  // namespace unhang::dump
