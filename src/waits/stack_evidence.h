// Values on stacks as evidence: what a thread keeps on its stack it works with. Weak alone, telling together
// with a structure that the value leads to. WinDbg's !findthreads does the same.
#pragma once

#include <unordered_map>
#include <unordered_set>

#include "waits/world.h"

namespace unhang::waits {

// The quadwords of a thread's kernel stack that are in use, innermost first, with the addresses that they lie
// at; of a thread on a processor also those of the stacks on which that runs deferred procedures and
// interrupts. Empty for threads without a stack. Cut where the stack cannot be read.
struct StackWord {
  VirtAddr at{};
  VirtAddr value{};
};
std::vector<StackWord> kernel_stack_words(const World& world, const ThreadNode& thread);

// The same of the inner part of the user stack, with the values of the registers where user mode goes on in
// front (at is null for them).
std::vector<StackWord> user_stack_words(const World& world, const ThreadNode& thread);

// The same of the 32-bit stack of a WOW64 thread: its doublewords. Empty for other threads.
std::vector<StackWord> user_stack_words32(const World& world, const ThreadNode& thread);

// Which threads keep values between `low` and `high` of each range on their kernel stacks: one pass over all
// stacks. Idle threads are left out, and what lies on the range's own stack.
struct Range {
  VirtAddr low{}, high{};
};
struct Reference {
  VirtAddr thread{};
  VirtAddr at{};
};
std::vector<std::vector<Reference>> find_references(const World& world, const std::vector<Range>& ranges);

}  // namespace unhang::waits
