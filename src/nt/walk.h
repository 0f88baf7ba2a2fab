// Walking the linked structures of the kernel. All of them end: bounded, safe against cycles, and the result
// says how the walk ended. Flink, Blink and Next are followed here and nowhere else.
#pragma once

#include <string>
#include <vector>

#include "base/source.h"
#include "nt/member.h"

namespace unhang::nt {

enum class WalkEnd : u8 {
  complete,
  unreadable,        // a link could not be read
  broken_back_link,  // an entry's Blink does not point to where we came from
  cycle,             // came back to an entry other than the head
  limit,
};
std::string_view name(WalkEnd end);

struct Walk {
  // Addresses of the links (not of the objects that contain them), the head left out.
  std::vector<VirtAddr> links;
  WalkEnd end = WalkEnd::complete;
  VirtAddr at{};         // where the walk ended, when it is not complete
  Error error{};         // for unreadable
  size_t from_tail = 0;  // how many of the links, the last ones, were found walking backwards from the head

  bool complete() const { return end == WalkEnd::complete; }
  // One line for a report: "ended at fffff800`12345678: ... is not in the dump; 3 more found from its end".
  std::string how() const;
};

inline constexpr size_t kMaxLinks = 1 << 20;

// A doubly linked list. When the forward walk breaks off, the rest is collected backwards from the head.
// An empty or never initialised (zero) head is a complete list of nothing.
Walk walk_list(const Source<VirtAddr>& space, VirtAddr head, size_t limit = kMaxLinks);

// The same, entered at any of its links when the head is unknown: every link that it meets, the given one
// first. Complete when it comes back to where it began.
Walk walk_ring(const Source<VirtAddr>& space, VirtAddr start, size_t limit = kMaxLinks);

// walk_list of LIST_ENTRY32, as 32-bit code in a 64-bit Windows has it.
Walk walk_list32(const Source<VirtAddr>& space, VirtAddr head, size_t limit = kMaxLinks);

// SINGLE_LIST_ENTRY chain from its first link to null.
Walk walk_chain(const Source<VirtAddr>& space, VirtAddr first, size_t limit = kMaxLinks);
// The same for objects whose pointer to the next one lies at an offset; links are the objects' addresses.
Walk walk_chain_of(const Source<VirtAddr>& space, VirtAddr first, u32 next_offset, size_t limit = kMaxLinks);

// Nodes of an RTL_BALANCED_NODE tree (left child at +0, right at +8), in no particular order.
Walk walk_tree(const Source<VirtAddr>& space, VirtAddr root, size_t limit = kMaxLinks);

}  // namespace unhang::nt
