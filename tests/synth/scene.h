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
// A DPC waits in the queue of a spin lock; a thread on the other processor has it and does not let go.
Scene queued_spin(MachineOptions options);
// Idle threads of all sorts, a short queue at a lock, pipes and change notifications pending for hours.
Scene healthy(MachineOptions options);

// A logon waits for an answer of lsass (ALPC), whose worker waits for a critical section, whose owner waits
// for a push lock, whose owner waits for a fast mutex, whose owner turns in a loop in a file system filter.
Scene long_chain(MachineOptions options);
// Two critical sections and a resource, crosswise.
Scene user_deadlock(MachineOptions options);
// A thread holds a resource and waits for a work item; every worker waits for the resource.
Scene work_queue_deadlock(MachineOptions options);
// Every worker waits for a driver's event; items queue behind them.
Scene worker_exhaustion(MachineOptions options);
// The owner of a push lock is suspended.
Scene suspended_owner(MachineOptions options);
// Threads wait for free pages.
Scene memory_exhaustion(MachineOptions options);
// The holder of a resource waits for a file on a share.
Scene remote_wait(MachineOptions options);
// Idle processors, due timers, ready threads.
Scene starved_vm(MachineOptions options);
// Two threads fault on one page; the read lies at the disk.
Scene page_in(MachineOptions options);

// All of them, by name.
struct NamedScene {
  const char* name;
  Scene (*make)(MachineOptions);
};
inline constexpr NamedScene kScenes[] = {{"busy_owner", busy_owner},
                                         {"deadlock", deadlock},
                                         {"mixed_deadlock", mixed_deadlock},
                                         {"io_stall", io_stall},
                                         {"orphaned_lock", orphaned_lock},
                                         {"cpu_spin", cpu_spin},
                                         {"queued_spin", queued_spin},
                                         {"long_chain", long_chain},
                                         {"user_deadlock", user_deadlock},
                                         {"work_queue_deadlock", work_queue_deadlock},
                                         {"worker_exhaustion", worker_exhaustion},
                                         {"suspended_owner", suspended_owner},
                                         {"memory_exhaustion", memory_exhaustion},
                                         {"remote_wait", remote_wait},
                                         {"starved_vm", starved_vm},
                                         {"page_in", page_in},
                                         {"healthy", healthy}};

}  // namespace unhang::synth
