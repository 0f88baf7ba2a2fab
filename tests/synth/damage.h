// Damage: what goes wrong with real dumps, done on purpose.
#pragma once

#include "synth/machine.h"

namespace unhang::synth {

// A copy of a dump's memory without one page.
dump::DumpFile without_page(Machine& machine, Pfn pfn);
// A copy in which the 8 bytes at a virtual address are something else.
dump::DumpFile with_pointer(Machine& machine, VirtAddr at, VirtAddr value);

}  // namespace unhang::synth
