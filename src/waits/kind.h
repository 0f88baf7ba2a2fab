// A wait kind: one way in which a thread can wait. One file each under kinds/; the build finds them.
#pragma once

#include "waits/world.h"

namespace unhang::waits {

struct WaitKind {
  const char* name;
  // Kinds run in ascending order: what is certain first, what fills in the rest last.
  int order;
  // Adds locks, edges and waits of this kind to the world.
  void (*find)(World& world);
};

// Runs all of them.
void find_waits(World& world);

}  // namespace unhang::waits
