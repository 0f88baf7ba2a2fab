#include "app/capture/duration.h"

#include <charconv>

#include "base/format.h"

namespace unhang::app::capture {

std::optional<milliseconds> parse_duration(std::string_view text) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc()) return std::nullopt;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  double scale = 0;
  if (unit == "ms") scale = 1;
  if (unit == "s" || unit.empty()) scale = 1e3;
  if (unit == "m" || unit == "min") scale = 60e3;
  if (unit == "h") scale = 3600e3;
  const double ms = number * scale;
  if (scale == 0 || !(ms >= 0) || ms > 366.0 * 24 * 3600e3) return std::nullopt;
  return milliseconds(static_cast<long long>(ms));
}

std::string duration_text(milliseconds time) {
  const auto ms = time.count();
  if (ms < 10'000) return fmt::format("{:.2f} s", static_cast<double>(ms) / 1e3);
  if (ms < 120'000) return fmt::format("{:.1f} s", static_cast<double>(ms) / 1e3);
  const auto s = ms / 1000;
  if (s < 7200) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
}

}  // namespace unhang::app::capture
