#include "app/progress_line.h"

#include <unistd.h>

#include <chrono>
#include <memory>

#include "base/format.h"

namespace unhang::app {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kSilence(1000), kStep(200);

struct Line {
  Clock::time_point begun = Clock::now(), shown{};
  bool visible = false;
  ~Line() {
    if (visible) fmt::print(stderr, "\r\033[K");
  }
};

}  // namespace

Progress progress_line() {
  if (isatty(STDERR_FILENO) == 0) return {};
  const auto line = std::make_shared<Line>();
  return [line](const ProgressStep& step) {
    const auto now = Clock::now();
    if (now - line->begun < kSilence || now - line->shown < kStep) return true;
    line->shown = now;
    line->visible = true;
    const u64 done = step.done >> 20, total = step.total >> 20;
    if (total == 0)
      fmt::print(stderr, "\r\033[K{}: {} MiB", step.what, done);
    else
      fmt::print(stderr, "\r\033[K{}: {} of {} MiB, {} %", step.what, done, total, done * 100 / total);
    return true;
  };
}

}  // namespace unhang::app
