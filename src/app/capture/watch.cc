#include "app/capture/watch.h"

#include <algorithm>
#include <cstring>

#include "app/command.h"
#include "app/interrupt.h"
#include "base/format.h"

namespace unhang::app::capture {

Outcome<std::optional<Slow>> wait_until_slow(Probe& probe, const Watch& watch) {
  const auto begun = Clock::now();
  const auto left = [&] { return watch.at_most ? *watch.at_most - since(begun) : milliseconds::max(); };
  for (unsigned number = 1;; number++) {
    Slow slow{.started = Clock::now(), .probes = number};
    TRY_VOID(probe.start());
    // A probe that cannot become slow in the time that is left says nothing any more.
    const auto end = TRY(probe.wait(std::min(watch.over, std::max(left(), milliseconds(0)))));
    if (Interrupt::signal() != 0)
      return trouble(fmt::format("ended by a signal ({})", strsignal(Interrupt::signal())));
    if (!end && since(slow.started) >= watch.over) {
      complain(fmt::format("probe {}: runs for {}: capturing", number, duration_text(since(slow.started))));
      return slow;
    }
    if (end) complain(fmt::format("probe {}: {}, {}", number, duration_text(since(slow.started)), *end));
    probe.stop();
    if (left() <= watch.every) return std::nullopt;
    if (!Interrupt::sleep(watch.every))
      return trouble(fmt::format("ended by a signal ({})", strsignal(Interrupt::signal())));
  }
}

}  // namespace unhang::app::capture
