// The side that has the virtual machine. One file for each way to speak with it: libvirt_host.cc,
// qmp_host.cc.
//
// Whichever way, the dump comes out of a pipe and this program writes the file: docs/decisions/capture.md.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/capture/descriptor.h"
#include "app/capture/duration.h"
#include "app/capture/failure.h"
#include "base/types.h"

namespace unhang::app::capture {

struct Guest {
  std::string name;
  u64 memory = 0;  // bytes of RAM
  bool running = false;
  bool held = false;  // it stands still for a dump, and for no reason of its own
  std::string state;  // the host's word for it: "paused", "guest-panicked"
};

class Host {
 public:
  virtual ~Host() = default;

  // "libvirt, qemu:///system"
  virtual std::string name() const = 0;
  virtual Outcome<Guest> look() = 0;
  // The formats that can come through a pipe, and that it has as far as it tells.
  virtual Outcome<std::vector<std::string>> formats() = 0;
  // The end of a new pipe that the dump will come out of.
  virtual Outcome<Descriptor> open_pipe() = 0;
  // Lets QEMU write into the other end; returns when it has closed that, or never began. Runs in a thread of
  // its own. QEMU stops the guest and lets it run again, also when writing fails: when nobody reads any more.
  virtual Outcome<void> dump(const std::string& format) = 0;
  // How long the guest stood still for the last dump. Nothing: it did not run before, or nobody said.
  virtual std::optional<milliseconds> stood_still() = 0;
  // A name that the pipe has is needed no longer: the first byte has come, or nobody will read any more.
  virtual void forget_name() {}
  // The guest shall run. Only for when it does not although it did before.
  virtual Outcome<void> let_run() = 0;

  // Nobody reads any more: dump() shall end soon.
  void abandon() { abandoned_ = true; }

 protected:
  std::atomic<bool> abandoned_ = false;
};

// Errors: no such socket, nobody answers there.
Outcome<std::shared_ptr<Host>> connect_qmp(const std::string& socket);
// Errors: no libvirt on this machine, no such domain.
Outcome<std::shared_ptr<Host>> connect_libvirt(const std::string& uri, const std::string& domain);

}  // namespace unhang::app::capture
