#include "nt/walk.h"

#include <unordered_set>

#include "base/format.h"
#include "memory/read.h"

namespace unhang::nt {

std::string_view name(WalkEnd end) {
  switch (end) {
    case WalkEnd::complete:
      return "complete";
    case WalkEnd::unreadable:
      return "unreadable";
    case WalkEnd::broken_back_link:
      return "broken_back_link";
    case WalkEnd::cycle:
      return "cycle";
    case WalkEnd::limit:
      return "limit";
  }
  return "limit";
}

std::string Walk::how() const {
  std::string s;
  switch (end) {
    case WalkEnd::complete:
      return "complete";
    case WalkEnd::unreadable:
      s = fmt::format("ended at {}: {}", at, text(error));
      break;
    case WalkEnd::broken_back_link:
      s = fmt::format("the back link of {} does not match", at);
      break;
    case WalkEnd::cycle:
      s = fmt::format("came back to {} instead of the head", at);
      break;
    case WalkEnd::limit:
      s = fmt::format("gave up after {} entries", links.size());
      break;
  }
  if (from_tail != 0) s += fmt::format("; {} found from its end", from_tail);
  return s;
}

namespace {

using ReadEntry = Result<ListEntry> (*)(const Source<VirtAddr>&, VirtAddr);

Result<ListEntry> read_entry(const Source<VirtAddr>& space, VirtAddr at) {
  return memory::read<ListEntry>(space, at);
}

Result<ListEntry> read_entry32(const Source<VirtAddr>& space, VirtAddr at) {
  struct Narrow {
    u32 flink, blink;
  };
  const auto e = TRY(memory::read<Narrow>(space, at));
  return ListEntry{VirtAddr(e.flink), VirtAddr(e.blink)};
}

// From the head's Blink back to where the forward walk got to. Adds what is new, in list order.
void from_the_tail(const Source<VirtAddr>& space, ReadEntry entry, VirtAddr head, size_t limit,
                   std::unordered_set<VirtAddr>& seen, Walk& walk) {
  const auto h = entry(space, head);
  if (!h) return;
  std::vector<VirtAddr> back;
  VirtAddr next = head, link = h->blink;
  while (link != head && !link.is_null() && walk.links.size() + back.size() < limit) {
    const auto e = entry(space, link);
    if (!e || e->flink != next || !seen.insert(link).second) break;
    back.push_back(link);
    next = link;
    link = e->blink;
  }
  walk.from_tail = back.size();
  walk.links.insert(walk.links.end(), back.rbegin(), back.rend());
}

Walk forward(const Source<VirtAddr>& space, ReadEntry entry, VirtAddr head, bool keep_head, size_t limit,
             std::unordered_set<VirtAddr>& seen) {
  Walk walk;
  auto stop = [&](WalkEnd end, VirtAddr at, Error error = {}) {
    walk.end = end;
    walk.at = at;
    walk.error = error;
  };
  seen.insert(head);
  if (keep_head) walk.links.push_back(head);
  const auto first = entry(space, head);
  if (!first) {
    stop(WalkEnd::unreadable, head, first.error());
    return walk;
  }
  VirtAddr before = head, link = first->flink;
  if (link.is_null() && first->blink.is_null()) return walk;
  while (link != head) {
    if (walk.links.size() >= limit) {
      stop(WalkEnd::limit, link);
      break;
    }
    if (seen.contains(link)) {
      stop(WalkEnd::cycle, link);
      break;
    }
    const auto e = entry(space, link);
    if (!e) {
      stop(WalkEnd::unreadable, link, e.error());
      break;
    }
    if (e->blink != before) {
      stop(WalkEnd::broken_back_link, link);
      break;
    }
    seen.insert(link);
    walk.links.push_back(link);
    before = link;
    link = e->flink;
  }
  // A list that comes to its head too early looks whole from this side only.
  if (walk.complete() && first->blink != before) stop(WalkEnd::broken_back_link, head);
  return walk;
}

Walk both_ways(const Source<VirtAddr>& space, ReadEntry entry, VirtAddr head, bool keep_head, size_t limit) {
  std::unordered_set<VirtAddr> seen;
  Walk walk = forward(space, entry, head, keep_head, limit, seen);
  if (!walk.complete() && walk.end != WalkEnd::limit) from_the_tail(space, entry, head, limit, seen, walk);
  return walk;
}

}  // namespace

Walk walk_list(const Source<VirtAddr>& space, VirtAddr head, size_t limit) {
  return both_ways(space, read_entry, head, false, limit);
}

Walk walk_list32(const Source<VirtAddr>& space, VirtAddr head, size_t limit) {
  return both_ways(space, read_entry32, head, false, limit);
}

Walk walk_ring(const Source<VirtAddr>& space, VirtAddr start, size_t limit) {
  return both_ways(space, read_entry, start, true, limit);
}

Walk walk_chain(const Source<VirtAddr>& space, VirtAddr first, size_t limit) {
  return walk_chain_of(space, first, 0, limit);
}

Walk walk_chain_of(const Source<VirtAddr>& space, VirtAddr first, u32 next_offset, size_t limit) {
  Walk walk;
  std::unordered_set<VirtAddr> seen;
  for (VirtAddr link = first; !link.is_null();) {
    const auto next = memory::read<VirtAddr>(space, link + next_offset);
    if (!next || walk.links.size() >= limit || !seen.insert(link).second) {
      walk.end = !next ? WalkEnd::unreadable : walk.links.size() >= limit ? WalkEnd::limit : WalkEnd::cycle;
      walk.at = link;
      if (!next) walk.error = next.error();
      break;
    }
    walk.links.push_back(link);
    link = *next;
  }
  return walk;
}

Walk walk_tree(const Source<VirtAddr>& space, VirtAddr root, size_t limit) {
  struct Children {
    VirtAddr left, right;
  };
  Walk walk;
  std::unordered_set<VirtAddr> seen;
  std::vector<VirtAddr> todo;
  if (!root.is_null()) todo.push_back(root);
  while (!todo.empty()) {
    const VirtAddr node = todo.back();
    todo.pop_back();
    auto stop = [&](WalkEnd end, Error error = {}) {
      if (walk.complete()) {
        walk.end = end;
        walk.at = node;
        walk.error = error;
      }
    };
    if (walk.links.size() >= limit) {
      stop(WalkEnd::limit);
      break;
    }
    if (!seen.insert(node).second) {
      stop(WalkEnd::cycle);
      continue;
    }
    const auto c = memory::read<Children>(space, node);
    if (!c) {
      stop(WalkEnd::unreadable, c.error());
      continue;
    }
    walk.links.push_back(node);
    if (!c->left.is_null()) todo.push_back(c->left);
    if (!c->right.is_null()) todo.push_back(c->right);
  }
  return walk;
}

}  // namespace unhang::nt
