// From a world to a verdict: runs the rules, ranks what they found, says what could not be seen.
#pragma once

#include "diagnose/rule.h"

namespace unhang::diagnose {

struct Verdict {
  const char* cls = "unknown";    // DESIGN section 6: verdict.class
  std::optional<size_t> finding;  // index of the one it rests on
  std::string summary;
  Confidence confidence = Confidence::exact;
};

// How many threads wait behind one, for the ranking of all threads.
struct Rank {
  VirtAddr thread{};
  size_t waiting = 0;
  u64 longest_ms = 0;
  double score = 0;
};

struct Diagnosis {
  std::vector<Finding> findings;  // the most telling first
  Verdict verdict;
  std::vector<Rank> ranking;  // threads that others wait for
  std::vector<std::vector<VirtAddr>> cycles;
};

Diagnosis diagnose(World& world, const Options& options);

// Whether everything that "no hang" would rest on was read; missing says what was not.
bool whole_picture(const World& world, std::string& missing);

}  // namespace unhang::diagnose
