// Waiting for the symptom: a probe again and again, until one takes too long.
#pragma once

#include "app/capture/probe.h"

namespace unhang::app::capture {

struct Watch {
  milliseconds over = std::chrono::seconds(60);   // slow is what takes longer
  milliseconds every = std::chrono::seconds(30);  // from the end of one probe to the start of the next
  std::optional<milliseconds> at_most;            // how long to go on
};

struct Slow {
  Clock::time_point started;  // of the probe that is slow
  unsigned probes = 0;        // with it
};

// Returns as soon as one probe has run for too long, and leaves it running. Nothing: the time was over first.
// Says on standard error what each took. Errors: the probe cannot work; a signal.
Outcome<std::optional<Slow>> wait_until_slow(Probe& probe, const Watch& watch);

}  // namespace unhang::app::capture
