// Pieces written one after another over the same addresses, where the later one wins: segments of a flattened
// kdump, pages that a live migration sent again.
#pragma once

#include <algorithm>
#include <queue>
#include <vector>

#include "base/types.h"

namespace unhang::dump {

// Piece: {u64 start, size; void skip(u64 n);} where skip(n) drops the first n units. Pieces must not wrap.
// Returns them sorted and disjoint, cut where a later piece lies over an earlier one.
template <class Piece>
std::vector<Piece> latest_wins(const std::vector<Piece>& written) {
  std::vector<size_t> order;
  order.reserve(written.size());
  for (size_t i = 0; i < written.size(); i++)
    if (written[i].size != 0) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return written[a].start < written[b].start; });

  const auto end = [&](size_t i) { return written[i].start + written[i].size; };
  std::vector<Piece> out;
  out.reserve(order.size());
  std::priority_queue<size_t> open;  // pieces that have begun; the latest is on top
  size_t next = 0, last = ~size_t{0};
  u64 at = 0;
  while (next < order.size() || !open.empty()) {
    if (open.empty()) at = std::max(at, written[order[next]].start);
    while (next < order.size() && written[order[next]].start <= at) open.push(order[next++]);
    while (!open.empty() && end(open.top()) <= at) open.pop();
    if (open.empty()) continue;
    const size_t top = open.top();
    const u64 stop = next < order.size() ? std::min(end(top), written[order[next]].start) : end(top);
    if (last == top && out.back().start + out.back().size == at) {
      out.back().size += stop - at;
    } else {
      Piece piece = written[top];
      piece.skip(at - piece.start);
      piece.size = stop - at;
      out.push_back(piece);
      last = top;
    }
    at = stop;
  }
  return out;
}

// The piece of a sorted, disjoint list that holds an address, or null.
template <class Piece>
const Piece* piece_at(const std::vector<Piece>& pieces, u64 at) {
  auto it =
      std::upper_bound(pieces.begin(), pieces.end(), at, [](u64 a, const Piece& p) { return a < p.start; });
  if (it == pieces.begin()) return nullptr;
  --it;
  return at - it->start < it->size ? &*it : nullptr;
}

}  // namespace unhang::dump
