// Structures differ between patch levels of one build: a member more in the middle of KTHREAD moves all of
// ETHREAD behind it. Where there are no symbols for exactly this kernel, the members that prove themselves
// (a process's id, a thread's pointer to its process, list heads whose entries point back) are looked for
// around the place where the best built-in layout has them, and what lies between two of them moves along.
//
// Also: what the kernel's own code says. Exported functions that return one member hold its offset.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/confidence.h"
#include "base/source.h"
#include "nt/kdbg.h"
#include "nt/layout_choice.h"
#include "nt/module.h"
#include "symbols/layout.h"

namespace unhang::nt {

// A member that was found.
struct Anchor {
  std::string type, path;
  u32 expected = 0;  // where the layout has it
  u32 found = 0;
  u32 passed = 0, tested = 0;  // objects that speak for it; 0 of 0: stated, not searched
  std::string how;             // "KDBG", "code of PsGetProcessId", "280 of 280 threads"
  i32 shift() const { return static_cast<i32>(found) - static_cast<i32>(expected); }
};

struct InferenceInput {
  const Source<VirtAddr>& kernel;
  const Kdbg* kdbg = nullptr;
  const Module* nt = nullptr;
  VirtAddr process_list{};    // PsActiveProcessHead
  VirtAddr system_process{};  // null when unknown
};

struct Inference {
  std::vector<Anchor> anchors;
  // Members of which the dump holds enough objects, but that fit at no place near.
  std::vector<std::string> lost;
  size_t moved() const;
  // At how many places something was put in or taken out: one, for what a patch level adds; many, when the
  // layout is another build's.
  size_t breaks() const;
};

Inference infer_layout(const InferenceInput& input, const symbols::Layout& layout);

// For a target that no layout fits as it is: the checks that choose a layout fail in one that moved, and may
// pass in another build's that has nothing else in common. Of the best one and those of the nearest builds,
// the one of which the target differs at the fewest places comes to the front.
Inference infer_nearest(const InferenceInput& input, u32 build, std::vector<LayoutScore>& ranked);

}  // namespace unhang::nt
