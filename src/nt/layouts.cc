#include "nt/layouts.h"

#include <utility>

namespace unhang::nt {

Result<Resolved> Layouts::resolve(const char* type, const char* path) const {
  const Error missing{.why = Why::no_member, .type = type, .member = path};
  if (exact_ != nullptr)
    if (const auto t = exact_->find_type(type)) {
      if (const auto f = exact_->field(type, path))
        return Resolved{*f, exact_confidence_, "symbols", exact_.get()};
      if (!t->partial) return fail(missing);
    }
  const auto known = offsets_.find({type, path});
  bool first = true;
  for (const auto& layout : candidates_) {
    const bool best = std::exchange(first, false);
    const auto t = layout->find_type(type);
    if (!t) continue;
    if (const auto f = layout->field(type, path)) {
      Resolved r{*f, best ? candidate_confidence_ : Confidence::guess, "nearest layout", layout.get()};
      if (known != offsets_.end()) {
        r.field.offset = known->second;
        r.confidence = Confidence::derived;
        r.source = "KDBG";
      } else if (best) {
        shift(type, r);
      }
      return r;
    }
    if (!t->partial) return fail(missing);
  }
  return fail(missing);
}

void Layouts::shift(const char* type, Resolved& r) const {
  const auto it = shifts_.find(type);
  if (it == shifts_.end() || it->second.empty()) return;
  const std::vector<Shift>& all = it->second;
  size_t i = 0;
  while (i + 1 < all.size() && all[i + 1].from <= r.field.offset) i++;
  const Shift& s = all[i];
  if (r.field.offset < s.from) {
    // Before the first one that was found: it moved as well, or it did not.
    if (s.by != 0) r.confidence = Confidence::guess;
    return;
  }
  // Between two that moved differently something was put in: before this one or behind it.
  const bool sure = i + 1 == all.size() || all[i + 1].by == s.by || r.field.offset == s.from;
  r.field.offset = static_cast<u32>(static_cast<i64>(r.field.offset) + s.by);
  if (s.by != 0) r.source = "nearest layout, moved";
  r.confidence = sure ? weaker(r.confidence, s.confidence) : Confidence::guess;
}

const symbols::Layout* Layouts::layout_of(std::string_view type) const {
  if (exact_ != nullptr && exact_->find_type(type)) return exact_.get();
  for (const auto& layout : candidates_)
    if (layout->find_type(type)) return layout.get();
  return nullptr;
}

Result<u64> Layouts::size_of(std::string_view type) const {
  const symbols::Layout* layout = layout_of(type);
  if (layout == nullptr) return fail(Why::no_member, "the type is unknown");
  return layout->find_type(type)->size;
}

}  // namespace unhang::nt
