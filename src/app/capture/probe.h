// A probe: something that is quick on a healthy machine and takes long while the symptom lasts. One file
// each: shell_probe.cc, rdp_probe.cc.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "app/capture/duration.h"
#include "app/capture/failure.h"

namespace unhang::app::capture {

struct ProbeEnd {
  std::string how;    // "answered", "exit status 1"
  bool good = false;  // as it should
};

class Probe {
 public:
  virtual ~Probe() = default;
  virtual std::string name() const = 0;
  // Errors: it can never work.
  virtual Outcome<void> start() = 0;
  // Nothing: it still runs after that time, or a signal came.
  virtual Outcome<std::optional<ProbeEnd>> wait(milliseconds time) = 0;
  // Ends it if it still runs.
  virtual void stop() = 0;
};

std::unique_ptr<Probe> shell_probe(const std::string& command);
// HOST or HOST:PORT, [ADDRESS]:PORT. Errors: it is not that.
Outcome<std::unique_ptr<Probe>> rdp_probe(const std::string& where);

}  // namespace unhang::app::capture
