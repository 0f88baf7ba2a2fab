// How far something long has come. Library code never prints: whoever calls it may show this.
#pragma once

#include <functional>
#include <string_view>

#include "base/types.h"

namespace unhang {

struct ProgressStep {
  std::string_view what;  // "unpacking gzip"
  u64 done = 0;           // bytes
  u64 total = 0;          // 0: not known (a pipe)
};

// Called every few megabytes; false ends the work with an error. May be empty.
using Progress = std::function<bool(const ProgressStep&)>;

}  // namespace unhang
