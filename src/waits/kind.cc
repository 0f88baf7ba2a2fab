#include "waits/kind.h"

#include <algorithm>

#include "kinds.plugs.h"

namespace unhang::waits {

void find_waits(World& world) {
  std::vector<const WaitKind*> kinds(std::begin(kKinds), std::end(kKinds));
  std::stable_sort(kinds.begin(), kinds.end(),
                   [](const WaitKind* a, const WaitKind* b) { return a->order < b->order; });
  for (const WaitKind* kind : kinds) kind->find(world);
}

}  // namespace unhang::waits
