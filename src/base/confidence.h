// How sure a statement is. Every frame, edge, layout and finding carries one.
#pragma once

#include <algorithm>
#include <string_view>

#include "base/types.h"

namespace unhang {

// From surest to least sure: comparing with < asks "is surer than".
enum class Confidence : u8 {
  exact,      // read where symbols of exactly this build say it is
  derived,    // follows from exact facts by a checked rule
  heuristic,  // likely: a scan or a pattern says so
  guess,      // the nearest known layout says so, or nothing better was there
};

constexpr std::string_view name(Confidence c) {
  switch (c) {
    case Confidence::exact:
      return "exact";
    case Confidence::derived:
      return "derived";
    case Confidence::heuristic:
      return "heuristic";
    case Confidence::guess:
      return "guess";
  }
  return "guess";
}

// A chain is no surer than its weakest link.
constexpr Confidence weaker(Confidence a, Confidence b) {
  return std::max(a, b);
}

}  // namespace unhang
