// Choosing the built-in layout that fits a target, by evidence in the target: what KDBG says of offsets, and
// invariants of the processes and threads that are there. Version numbers break ties, they decide nothing.
#pragma once

#include <vector>

#include "nt/kdbg.h"
#include "symbols/layout.h"

namespace unhang::nt {

struct LayoutScore {
  std::shared_ptr<const symbols::Layout> layout;
  u32 passed = 0;
  u32 tested = 0;
  double share() const { return tested == 0 ? 0 : static_cast<double>(passed) / tested; }
};

struct LayoutEvidence {
  const Source<VirtAddr>& kernel;
  const Kdbg* kdbg = nullptr;
  VirtAddr process_list{};     // PsActiveProcessHead, null when unknown
  VirtAddr system_process{};   // what PsInitialSystemProcess points to, null when unknown
  u32 build = 0;               // hint for ties
  const Module* nt = nullptr;  // list heads lie in it, objects do not
};

// All built-in layouts, best first.
std::vector<LayoutScore> rank_layouts(const LayoutEvidence& evidence);

// Offsets that KDBG states: field, and the member or size (path null) it speaks of.
struct KdbgFact {
  u32 field;
  const char* type;
  const char* path;
};
std::span<const KdbgFact> kdbg_facts();

}  // namespace unhang::nt
