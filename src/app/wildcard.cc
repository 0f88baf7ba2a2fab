#include "app/wildcard.h"

namespace unhang::app {

bool wildcard_match(std::string_view pattern, std::string_view text) {
  const auto low = [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : +c; };
  // Where to go on after the last '*' when a later character does not fit.
  size_t p = 0, t = 0, star = pattern.npos, retry = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || low(pattern[p]) == low(text[t]))) {
      p++;
      t++;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') p++;
  return p == pattern.size();
}

}  // namespace unhang::app
