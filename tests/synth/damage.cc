#include "synth/damage.h"

namespace unhang::synth {

dump::DumpFile without_page(Machine& machine, Pfn pfn) {
  dump::DumpFile d = machine.dump();
  static_cast<Pages&>(*d.physical).remove(pfn);
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
