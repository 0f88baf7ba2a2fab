#include "synth/damage.h"

#include <algorithm>
#include <cstring>

namespace unhang::synth {

dump::DumpFile without_page(Machine& machine, Pfn pfn) {
  dump::DumpFile d = machine.dump();
  static_cast<Pages&>(*d.physical).remove(pfn);
  return d;
}

Smear::Smear(Machine& machine) : machine_(machine), then_(static_cast<Pages&>(*machine.dump().physical)) {}

std::vector<Pfn> Smear::changed() {
  std::vector<Pfn> out;
  const dump::DumpFile now = machine_.dump();
  for (const Pfn pfn : then_.all())
    if (std::memcmp(then_.page(pfn), static_cast<Pages&>(*now.physical).page(pfn), kPageSize) != 0)
      out.push_back(pfn);
  return out;
}

dump::DumpFile Smear::with_later(const std::vector<Pfn>& pages) {
  dump::DumpFile d = machine_.dump();
  Pages& memory = static_cast<Pages&>(*d.physical);
  for (const Pfn pfn : then_.all())
    if (std::find(pages.begin(), pages.end(), pfn) == pages.end())
      memory.write(pfn.address(), {then_.page(pfn), kPageSize});
  return d;
}

dump::DumpFile with_pointer(Machine& machine, VirtAddr at, VirtAddr value) {
  const VirtAddr old = machine.memory().get<VirtAddr>(at);
  machine.memory().put(at, value);
  dump::DumpFile d = machine.dump();
  machine.memory().put(at, old);
  return d;
}

}  // namespace unhang::synth
