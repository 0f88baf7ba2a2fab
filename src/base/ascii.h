// Names that Windows compares without case: files, processes, drivers. ASCII only, whatever the locale.
#pragma once

#include <algorithm>
#include <string>

namespace unhang {

inline std::string lower(std::string s) {
  std::ranges::transform(s, s.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return s;
}

}  // namespace unhang
