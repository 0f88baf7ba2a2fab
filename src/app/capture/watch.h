// Waiting for the symptom: a probe again and again, until one takes too long.
#pragma once

#include "app/capture/probe.h"

namespace unhang::app::capture {

struct Watch {
  milliseconds over = std::chrono::seconds(60);   // slow is what takes longer
  milliseconds every = std::chrono::seconds(30);  // from the end of one probe to the start of the next
  std::optional<milliseconds> at_most;            // how long to go on
};

struct Watched {
  unsigned probes = 0, failed = 0;              // with the slow one; those that ended not as they should
  std::optional<Clock::time_point> slow_since;  // start of the probe that is slow; nothing: the time was over
};

// Returns as soon as one probe has run for too long, and leaves it running; or when the time is over. Says on
// standard error what each took. Errors: the probe cannot work, or never did; a signal.
Outcome<Watched> wait_until_slow(Probe& probe, const Watch& watch);

}  // namespace unhang::app::capture
