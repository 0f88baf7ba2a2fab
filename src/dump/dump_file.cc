#include "dump/dump_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/format.h"
#include "formats.plugs.h"

namespace unhang::dump {

namespace {

// A dump that somebody compressed twice is conceivable; more is a bomb.
constexpr int kMostContainers = 3;

Result<DumpFile> open_plain(const std::shared_ptr<const File>& file, const OpenOptions& options) {
  std::vector<const Format*> formats(std::begin(kFormats), std::end(kFormats));
  std::stable_sort(formats.begin(), formats.end(),
                   [](const Format* a, const Format* b) { return a->order < b->order; });
  for (const Format* format : formats) {
    if (!format->probe(*file)) continue;
    Result<DumpFile> dump = format->open(file, options);
    if (dump) {
      dump->file = file;
      dump->format = format->name;
    }
    return dump;
  }
  return fail(Error{.why = Why::unsupported, .detail = "not a memory dump in any form that unhang knows"});
}

Result<DumpFile> open_unpacked(Unpacked unpacked, const OpenOptions& options, int depth) {
  std::string how = unpacked.how;
  std::vector<Gap> gaps = std::move(unpacked.gaps);
  std::shared_ptr<const File> file = std::move(unpacked.file);
  while (is_compressed(*file)) {
    if (++depth > kMostContainers)
      return fail(Error{.why = Why::unsupported, .detail = "compressed more than three times over"});
    Unpacked inner = TRY(unpack(std::move(file), 0, options));
    file = std::move(inner.file);
    how += (how.empty() ? "" : ", ") + inner.how;
    gaps.insert(gaps.end(), inner.gaps.begin(), inner.gaps.end());
  }
  Result<DumpFile> dump = open_plain(file, options);
  if (!dump) return dump;
  if (!how.empty()) dump->description += fmt::format(" (unpacked from {})", how);
  dump->gaps.insert(dump->gaps.begin(), gaps.begin(), gaps.end());
  return dump;
}

// Standard input, a named pipe, <(zcat ...): read once, from front to back.
Result<DumpFile> open_pipe(int fd, const std::string& name, const OpenOptions& options) {
  return open_unpacked(TRY(unpack_pipe(fd, name, options)), options, 1);
}

}  // namespace

Result<DumpFile> open_dump(std::shared_ptr<const File> file, const OpenOptions& options) {
  return open_unpacked({.file = std::move(file), .how = "", .gaps = {}}, options, 0);
}

Result<DumpFile> open_dump(const std::string& path, const OpenOptions& options) {
  struct stat st{};
  if (path == "-") {
    if (fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode))
      return open_dump(TRY(File::from_fd(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0), "-")), options);
    return open_pipe(STDIN_FILENO, path, options);
  }
  if (stat(path.c_str(), &st) == 0 && S_ISFIFO(st.st_mode)) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(Error{.why = Why::io, .detail = "cannot open", .os_error = errno});
    auto dump = open_pipe(fd, path, options);
    close(fd);
    return dump;
  }
  return open_dump(TRY(File::open(path)), options);
}

}  // namespace unhang::dump
