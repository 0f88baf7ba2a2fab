// Which layout answers for a member. In order: symbols of exactly this kernel; what the target says of itself
// (offsets in KDBG); the built-in layout that fits the target best; other built-in layouts, by distance.
//
// Presence decides: when exact symbols have the type but not the member, this build does not have the member,
// and no other layout is asked.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/confidence.h"
#include "symbols/layout.h"

namespace unhang::nt {

struct Resolved {
  symbols::Field field;
  Confidence confidence = Confidence::guess;
  const char* source = "";  // "symbols", "KDBG", "nearest layout"
  const symbols::Layout* layout = nullptr;
};

class Layouts {
 public:
  void set_exact(std::shared_ptr<const symbols::Layout> layout, Confidence confidence) {
    exact_ = std::move(layout);
    exact_confidence_ = confidence;
  }
  void set_offset(std::string type, std::string path, u32 offset) {
    offsets_[{std::move(type), std::move(path)}] = offset;
  }
  // How many checks of a layout on the target's objects passed.
  struct Score {
    u32 passed = 0, tested = 0;
  };
  // Best first. confidence and score: how well the first one was confirmed by the target.
  void set_candidates(std::vector<std::shared_ptr<const symbols::Layout>> candidates, Confidence confidence,
                      Score score) {
    candidates_ = std::move(candidates);
    candidate_confidence_ = confidence;
    score_ = score;
  }

  // Members of a type at or behind `from` in the best candidate lie `by` bytes farther.
  struct Shift {
    u32 from = 0;
    i32 by = 0;
    Confidence confidence = Confidence::derived;
  };
  // Ascending by from; the first one also counts for what lies before it, as a guess unless it is 0.
  void set_shifts(std::string type, std::vector<Shift> shifts) {
    shifts_[std::move(type)] = std::move(shifts);
  }

  const symbols::Layout* exact() const { return exact_.get(); }
  const symbols::Layout* best() const { return candidates_.empty() ? nullptr : candidates_.front().get(); }
  Confidence best_confidence() const { return candidate_confidence_; }
  Score best_score() const { return score_; }

  // Errors: no_member.
  Result<Resolved> resolve(const char* type, const char* path) const;
  // Errors: no_member.
  Result<u64> size_of(std::string_view type) const;
  // The layout that knows a type, for dt.
  const symbols::Layout* layout_of(std::string_view type) const;

 private:
  void shift(const char* type, Resolved& r) const;

  std::shared_ptr<const symbols::Layout> exact_;
  Confidence exact_confidence_ = Confidence::exact;
  std::map<std::pair<std::string, std::string>, u32> offsets_;
  std::vector<std::shared_ptr<const symbols::Layout>> candidates_;
  Confidence candidate_confidence_ = Confidence::guess;
  Score score_;
  std::map<std::string, std::vector<Shift>, std::less<>> shifts_;
};

}  // namespace unhang::nt
