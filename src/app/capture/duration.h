// Lengths of time as people write them: 500ms, 60s, 5m, 2h.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace unhang::app::capture {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Nothing when it is no duration, or longer than a year. A number without a unit is seconds.
std::optional<milliseconds> parse_duration(std::string_view text);
// "0.21 s", "61.2 s", "5 min 3 s".
std::string duration_text(milliseconds time);
inline milliseconds since(Clock::time_point then) {
  return std::chrono::duration_cast<milliseconds>(Clock::now() - then);
}

}  // namespace unhang::app::capture
