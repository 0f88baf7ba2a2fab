#include "app/capture/named_pipe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/format.h"

namespace unhang::app::capture {

Outcome<NamedPipe> NamedPipe::make() {
  // A folder of our own: in /tmp itself the kernel forbids even root to open others' pipes
  // (fs.protected_fifos). Local file systems first: on NFS the daemon's root may be nobody.
  std::vector<std::string> places;
  if (geteuid() == 0) places.push_back("/run");
  for (const char* name : {"XDG_RUNTIME_DIR", "TMPDIR"})
    if (const char* value = std::getenv(name); value != nullptr && value[0] == '/') places.push_back(value);
  places.push_back("/tmp");
  for (const std::string& place : places) {
    std::string folder = place + "/unhang-XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) continue;
    NamedPipe pipe(folder);
    if (mkfifo(pipe.path().c_str(), 0600) == 0) return pipe;
  }
  return trouble(fmt::format("cannot make a pipe in {}: {}", places.back(), std::strerror(errno)));
}

Outcome<Descriptor> NamedPipe::open() const {
  Descriptor end(::open(path().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!end) return trouble(fmt::format("cannot open {}: {}", path(), std::strerror(errno)));
  return end;
}

void NamedPipe::remove() {
  if (folder_.empty()) return;
  // The folder first: a daemon that comes between the two would make a plain file in it.
  const std::string gone = folder_ + "-gone";
  if (rename(folder_.c_str(), gone.c_str()) == 0) folder_ = gone;
  unlink(path().c_str());
  rmdir(folder_.c_str());
  folder_.clear();
}

}  // namespace unhang::app::capture
