// Situations that several tests look at. Each builds a machine and says who is who.
#pragma once

#include "synth/machine.h"

namespace unhang::synth {

struct Scene {
  std::unique_ptr<Machine> machine;
  std::map<std::string, VirtAddr> thread;  // by role
  std::map<std::string, VirtAddr> object;  // locks, IRPs
  std::string verdict;                     // what the tool must say
  VirtAddr culprit{};
};

// The motivating hang: \Windows held shared by LogonUI, which waits for \Windows\Temp, whose owner runs.
Scene busy_owner(MachineOptions options);
// Two threads, two resources, crosswise.
Scene deadlock(MachineOptions options);
// A cycle through a resource, a mutant and a fast mutex, with more threads behind it.
Scene mixed_deadlock(MachineOptions options);
// A lock's holder waits long for a read at the disk's port driver.
Scene io_stall(MachineOptions options);
// The owner of a mutant has ended.
Scene orphaned_lock(MachineOptions options);
// A DPC spins for a spin lock.
Scene cpu_spin(MachineOptions options);
// Idle threads of all sorts, a short queue at a lock, pipes and change notifications pending for hours.
Scene healthy(MachineOptions options);

// All of them, by name.
struct NamedScene {
  const char* name;
  Scene (*make)(MachineOptions);
};
inline constexpr NamedScene kScenes[] = {
    {"busy_owner", busy_owner}, {"deadlock", deadlock},           {"mixed_deadlock", mixed_deadlock},
    {"io_stall", io_stall},     {"orphaned_lock", orphaned_lock}, {"cpu_spin", cpu_spin},
    {"healthy", healthy}};

}  // namespace unhang::synth
