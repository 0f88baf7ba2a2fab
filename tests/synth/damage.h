// Damage: what goes wrong with real dumps, done on purpose.
#pragma once

#include "synth/machine.h"

namespace unhang::synth {

// A copy of a dump's memory without one page.
dump::DumpFile without_page(Machine& machine, Pfn pfn);
// A copy in which the 8 bytes at a virtual address are something else.
dump::DumpFile with_pointer(Machine& machine, VirtAddr at, VirtAddr value);

// A machine ran on while it was dumped: its memory at an earlier moment, but with some pages as they are now.
class Smear {
 public:
  explicit Smear(Machine& machine);  // the earlier moment
  // The pages that have changed since.
  std::vector<Pfn> changed();
  dump::DumpFile with_later(const std::vector<Pfn>& pages);

 private:
  Machine& machine_;
  Pages then_;
};

}  // namespace unhang::synth
