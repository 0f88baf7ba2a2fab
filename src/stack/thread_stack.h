// The stack of a thread: where to start (a vCPU's registers for a running thread, the switch frame for the
// others), kernel part, and through the trap frame the user part.
#pragma once

#include <map>
#include <memory>
#include <unordered_map>

#include "nt/objects/thread.h"
#include "nt/target.h"
#include "stack/unwinder.h"

namespace unhang::stack {

struct ThreadStack {
  std::vector<Frame> frames;
  std::vector<std::string> symbols;  // one for each frame: "nt!KiSwapContext+0x7a"
  std::string start;                 // "registers of CPU 1", "switch frame"
  std::string kernel_end;            // how the kernel part ended
  std::string user_end;              // how the user part ended; empty when there is none
  StackEnd end = StackEnd::complete;
  bool heuristic = false;
  bool from_cpu = false;  // it began with the registers of a processor
  // Where user mode goes on: what was saved of the non-volatile registers on the way through the kernel is in
  // here, so a value that user code keeps in one can be looked at.
  std::optional<Registers> user_registers;
};

// Makes stacks for one target; keeps the modules of the processes it met.
class StackMaker {
 public:
  explicit StackMaker(const nt::Target& target) : target_(target) {}

  ThreadStack make(const nt::Thread& thread);
  // From a processor's registers. teb may be null: it bounds scans of the user stack.
  ThreadStack make(const dump::CpuState& state, VirtAddr stack_base, PhysAddr dtb, VirtAddr peb, VirtAddr teb,
                   std::string from);

  // "ntdll!NtWaitForSingleObject+0x14" in a process, "nt!..." in the kernel; "0x..." when in no module.
  std::string symbolize(VirtAddr va, PhysAddr dtb, VirtAddr peb);

 private:
  struct UserSide {
    nt::ModuleList modules;
    std::vector<Gap> gaps;
  };
  UserSide& user_side(PhysAddr dtb, VirtAddr peb);
  std::optional<ImageAt> user_image(UserSide& side, const Source<VirtAddr>& space, VirtAddr va);
  FindImage kernel_images() const;
  void unwind_kernel(ThreadStack& out, const Registers& start, const UnwindOptions& options, PhysAddr dtb,
                     VirtAddr peb, VirtAddr teb);
  void add(ThreadStack& out, const Unwound& unwound, PhysAddr dtb, VirtAddr peb);
  void go_on_in_user_mode(ThreadStack& out, Registers registers, u16 cs, PhysAddr dtb, VirtAddr peb,
                          VirtAddr teb);

  const nt::Target& target_;
  std::map<PhysAddr, UserSide> users_;
  std::unordered_map<VirtAddr, std::string> kernel_symbols_;  // the same few addresses are on most stacks
};

}  // namespace unhang::stack
