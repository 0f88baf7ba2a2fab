// Taking one dump: from the host's pipe into a file that appears when it is whole.
#pragma once

#include "app/capture/host.h"

namespace unhang::app::capture {

struct Taken {
  std::string path, format;
  u64 size = 0;
  u64 on_disk = 0;  // less than the size where pages of zeros became holes
  milliseconds took{};
  Guest before;                        // as it was
  std::optional<milliseconds> paused;  // nothing: it did not run before, or nobody said for how long
};

// Tries the formats in turn while the host says that it has no such one. When it fails, also by a signal, no
// file is there and the guest runs if it did before. Errors: those of the host; the file cannot be written; a
// signal.
Outcome<Taken> take_dump(const std::shared_ptr<Host>& host, const std::vector<std::string>& formats,
                         const std::string& path);

}  // namespace unhang::app::capture
