#include "app/capture/watch.h"

#include <algorithm>
#include <cstring>

#include "app/command.h"
#include "app/interrupt.h"
#include "base/format.h"

namespace unhang::app::capture {

Outcome<Watched> wait_until_slow(Probe& probe, const Watch& watch) {
  const auto begun = Clock::now();
  const auto left = [&] { return watch.at_most ? *watch.at_most - since(begun) : milliseconds::max(); };
  Watched w;
  while (true) {
    const auto started = Clock::now();
    w.probes++;
    TRY_VOID(probe.start());
    // A probe that cannot become slow in the time that is left says nothing any more.
    const auto end = TRY(probe.wait(std::min(watch.over, std::max(left(), milliseconds(0)))));
    if (Interrupt::signal() != 0)
      return trouble(fmt::format("ended by a signal ({})", strsignal(Interrupt::signal())));
    if (!end && since(started) >= watch.over) {
      complain(fmt::format("probe {}: runs for {}: capturing", w.probes, duration_text(since(started))));
      w.slow_since = started;
      return w;
    }
    if (end) complain(fmt::format("probe {}: {}, {}", w.probes, duration_text(since(started)), end->how));
    if (end && !end->good) w.failed++;
    probe.stop();
    if (left() <= watch.every) {
      // A service that is not there is not quick.
      if (end && w.failed == w.probes)
        return mistake(fmt::format("the probe failed each time ({}): no dump was taken; last: {}",
                                   counted(w.probes, "time", "times"), end->how));
      return w;
    }
    if (!Interrupt::sleep(watch.every))
      return trouble(fmt::format("ended by a signal ({})", strsignal(Interrupt::signal())));
  }
}

}  // namespace unhang::app::capture
