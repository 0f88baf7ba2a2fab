// Two dumps of one machine, some seconds apart: what stands still and what only goes slowly. One dump shows a
// queue; two show whether it moves.
#pragma once

#include "diagnose/diagnose.h"

namespace unhang::diagnose {

struct ThreadChange {
  VirtAddr thread{};
  u32 switches = 0;  // context switches between the dumps
  u64 cpu_ms = 0;    // CPU time used between them
  bool same_stack = false;
  bool same_wait = false;  // waits for the same object, and has not got it meanwhile
  size_t waiting = 0;      // threads that wait behind it, in the second dump
};

struct LockChange {
  VirtAddr address{};
  VirtAddr process{};  // whose address it is; null: the kernel's
  const char* kind = "";
  std::string name;
  std::vector<VirtAddr> owners_before, owners_after;
  u32 contention = 0;  // how much the counter grew
  size_t waiters_before = 0, waiters_after = 0;
  bool same_owners = false;
};

struct Difference {
  u64 elapsed_ms = 0;
  size_t common = 0, ended = 0, started = 0;  // threads
  // Threads that wait for something that somebody holds or must answer, and did not move at all.
  std::vector<ThreadChange> stuck;
  // Threads that used the CPU, the busiest first.
  std::vector<ThreadChange> busy;
  std::vector<LockChange> locks;  // held with waiters in one of the dumps
  // "stuck", "slow", "idle"; "unknown" where nothing waits in what could be read, or no time passed.
  std::string verdict;
  std::string summary;
  std::vector<Gap> gaps;  // of both dumps
};

// Errors: unsupported (not two dumps of one boot of one machine, the second older than the first).
Result<Difference> difference(World& before, World& after);

}  // namespace unhang::diagnose
