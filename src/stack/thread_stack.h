// The stack of a thread: where to start (a vCPU's registers for a running thread, the switch frame for the
// others), kernel part, through the trap frame the user part, and the 32-bit part of WOW64 threads.
#pragma once

#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "nt/objects/loader.h"
#include "nt/objects/thread.h"
#include "nt/target.h"
#include "stack/unwinder.h"
#include "stack/wow64.h"

namespace unhang::stack {

struct ThreadStack {
  std::vector<Frame> frames;
  // One of each for each frame; they live as long as the target and the StackMaker.
  std::vector<std::string_view> symbols;        // "nt!KiSwapContext+0x7a"
  std::vector<const nt::Module*> modules;       // null: in no module
  std::string start;                            // "registers of CPU 1", "switch frame"
  StackEnd kernel_stop = StackEnd::no_context;  // how the kernel part ended
  std::string kernel_end;                       // the same in words
  std::string user_end;                         // how the user part ended; empty when there is none
  StackEnd end = StackEnd::complete;
  bool heuristic = false;
  bool from_cpu = false;  // it began with the registers of a processor
  // Whether the kernel part was followed to its end: what it does not show is not there.
  bool kernel_whole() const {
    return !heuristic && (kernel_stop == StackEnd::complete || kernel_stop == StackEnd::user_mode);
  }
  // Where user mode goes on: what was saved of the non-volatile registers on the way through the kernel is in
  // here, so a value that user code keeps in one can be looked at.
  std::optional<Registers> user_registers;
  // The same of the 32-bit part of a WOW64 thread.
  std::optional<Registers32> user_registers32;
};

// Makes stacks for one target; keeps the modules of the processes it met.
class StackMaker {
 public:
  explicit StackMaker(const nt::Target& target) : target_(target) {}

  ThreadStack make(const nt::Thread& thread);

  // "ntdll!NtWaitForSingleObject+0x14" in a process, "nt!..." in the kernel; "0x..." when in no module.
  std::string symbolize(VirtAddr va, PhysAddr dtb, VirtAddr peb);

  // The modules of a process, with images and symbols looked up; wow64: its EPROCESS.Wow64Process.
  std::vector<const nt::Module*> modules_of(PhysAddr dtb, VirtAddr peb, VirtAddr wow64);

 private:
  // What the user part of a thread needs. teb may be null: it bounds scans of the user stack.
  struct User {
    PhysAddr dtb{};
    VirtAddr peb{}, teb{}, wow64{};
  };
  struct UserSide {
    nt::ModuleList modules;
    std::vector<Gap> gaps;
    bool has_x86 = false;  // the 32-bit list was read
    bool clr = false;      // .NET is loaded: it makes code at run time
  };
  static User user_of(const nt::Target& target, const nt::Thread& thread);
  ThreadStack make(const nt::Cpu& cpu, VirtAddr stack_base, const User& user);
  UserSide& user_side(PhysAddr dtb, VirtAddr peb);
  void add_modules(UserSide& side, nt::LoadedModules found);
  void add_x86_modules(UserSide& side, PhysAddr dtb, VirtAddr peb32);
  // Code in memory of the process that no image has: what a just-in-time compiler makes.
  bool dynamic_code(PhysAddr dtb, VirtAddr va);
  std::string_view symbolize(VirtAddr va, PhysAddr dtb, VirtAddr peb, const nt::Module*& module);
  std::optional<ImageAt> user_image(UserSide& side, const Source<VirtAddr>& space, VirtAddr va);
  FindImage kernel_images() const;
  void unwind_kernel(ThreadStack& out, const Registers& start, const UnwindOptions& options,
                     const User& user);
  void add(ThreadStack& out, const Unwound& unwound, const User& user);
  void go_on_in_user_mode(ThreadStack& out, Registers registers, u16 cs, const User& user);
  void go_on_in_x86(ThreadStack& out, std::optional<Registers32> registers, const User& user);

  const nt::Target& target_;
  std::map<PhysAddr, UserSide> users_;
  // The same few addresses are on most stacks.
  std::unordered_map<VirtAddr, std::string> kernel_symbols_;
  std::unordered_set<std::string> user_symbols_;
};

}  // namespace unhang::stack
