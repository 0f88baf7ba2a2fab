#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace unhang {

namespace {
std::unexpected<Error> io_error(const char* what) {
  return fail(Error{.why = Why::io, .detail = what, .os_error = errno});
}
}  // namespace

Result<std::shared_ptr<const File>> File::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return io_error("cannot open");
  return from_fd(fd, path);
}

Result<std::shared_ptr<const File>> File::from_fd(int fd, std::string name) {
  std::shared_ptr<File> file(new File);
  file->path_ = std::move(name);
  file->fd_ = fd;
  struct stat st{};
  if (fstat(file->fd_, &st) != 0) return io_error("cannot stat");
  if (S_ISDIR(st.st_mode)) {
    errno = EISDIR;
    return io_error("cannot read");
  }
  u64 size = static_cast<u64>(st.st_size);
  // A RAM snapshot on Proxmox or oVirt is a logical volume: a block device has its size at its end.
  if (S_ISBLK(st.st_mode)) {
    const off_t end = lseek(file->fd_, 0, SEEK_END);
    if (end < 0) return io_error("cannot tell the size of the block device");
    size = static_cast<u64>(end);
  } else if (!S_ISREG(st.st_mode)) {
    return fail(Error{.why = Why::unsupported, .detail = "not a regular file or block device"});
  }
  if (size == 0) return fail(Error{.why = Why::bad_file, .detail = "the file is empty"});
  void* p = mmap(nullptr, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, file->fd_, 0);
  if (p == MAP_FAILED) return io_error("cannot map");
  // Reads jump about: read-ahead of a mapped file would fetch 16 pages for each one that is looked at.
  madvise(p, size, MADV_RANDOM);
  file->bytes_ = ByteView(p, size);
  return file;
}

std::shared_ptr<const File> File::from_bytes(std::vector<u8> bytes, std::string name) {
  std::shared_ptr<File> file(new File);
  file->path_ = std::move(name);
  file->owned_ = std::move(bytes);
  file->bytes_ = ByteView(file->owned_.data(), file->owned_.size());
  return file;
}

std::shared_ptr<const File> File::from_static(ByteView bytes, std::string name) {
  std::shared_ptr<File> file(new File);
  file->path_ = std::move(name);
  file->bytes_ = bytes;
  return file;
}

File::~File() {
  if (fd_ < 0) return;
  if (!bytes_.empty()) munmap(const_cast<u8*>(bytes_.data()), bytes_.size());
  close(fd_);
}

void File::will_read(u64 offset, u64 size) const {
  if (fd_ < 0 || offset >= this->size()) return;
  const u64 first = offset & ~(kPageSize - 1);
  madvise(const_cast<u8*>(bytes_.data()) + first, std::min(size + (offset - first), this->size() - first),
          MADV_WILLNEED);
}

void File::forget(u64 offset, u64 size) const {
  if (fd_ < 0 || offset >= this->size()) return;
  const u64 first = (offset + kPageSize - 1) & ~(kPageSize - 1);
  const u64 last = (offset + std::min(size, this->size() - offset)) & ~(kPageSize - 1);
  if (first < last) madvise(const_cast<u8*>(bytes_.data()) + first, last - first, MADV_DONTNEED);
}

std::vector<Extent> File::data_extents(u64 offset, u64 size, size_t limit) const {
  std::vector<Extent> out;
  if (offset >= this->size()) return out;
  const u64 end = offset + std::min(size, this->size() - offset);
  u64 at = offset;
  while (fd_ >= 0 && at < end && out.size() < limit) {
    const off_t data = lseek(fd_, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return out;  // only a hole up to the end
    if (data < 0) break;                         // the file system cannot tell
    const off_t hole = lseek(fd_, data, SEEK_HOLE);
    if (hole < 0) break;
    const u64 first = std::max<u64>(static_cast<u64>(data), at);
    const u64 last = std::min<u64>(static_cast<u64>(hole), end);
    if (first >= end) return out;
    out.push_back({first, last - first});
    at = last;
  }
  if (at < end) out.push_back({at, end - at});
  return out;
}

}  // namespace unhang
