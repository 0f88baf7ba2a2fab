// A pipe with a name, for a daemon that takes file names and no descriptors. The name lives in a folder of
// ours, and only until the daemon has opened it.
#pragma once

#include <string>
#include <utility>

#include "app/capture/descriptor.h"
#include "app/capture/failure.h"

namespace unhang::app::capture {

class NamedPipe {
 public:
  // Errors: no folder to make it in.
  static Outcome<NamedPipe> make();
  NamedPipe(NamedPipe&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}
  NamedPipe& operator=(NamedPipe&& other) noexcept {
    std::swap(folder_, other.folder_);
    return *this;
  }
  ~NamedPipe() { remove(); }

  std::string path() const { return folder_ + "/dump"; }
  // The reading end; does not wait for a writer.
  Outcome<Descriptor> open() const;
  void remove();

 private:
  explicit NamedPipe(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
};

}  // namespace unhang::app::capture
