// The user half of a made process: modules on the loader's lists (64-bit and 32-bit), TEBs, stacks, and where
// a thread came out of user mode.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "synth/machine.h"

namespace unhang::synth {

// An x86 image in memory: functions that are one call and much padding, all exported. A return address lies
// kCallSite behind each function's begin.
inline constexpr u32 kCallSite = 0x20;
std::vector<u8> image_x86(const std::string& file, const std::map<std::string, u32>& functions);

class UserSide {
 public:
  // wow64: with a 32-bit PEB.
  UserSide(Machine& machine, VirtAddr process, bool wow64 = false);

  void add_module(const std::string& file, VirtAddr base, const std::vector<u8>& image);
  void add_module32(const std::string& file, u32 base, const std::vector<u8>& image);

  // The thread gets a 64-bit TEB and stack and, in a 32-bit process, those of 32-bit code.
  void give_stacks(VirtAddr thread);
  static constexpr u64 kTeb = 0x7ff70000, kStack = 0x200000, kStackBase = 0x220000;
  static constexpr u32 kStack32 = 0x500000, kStackBase32 = 0x510000;
  // The 32-bit registers that were saved on the way to 64-bit code.
  void save_context32(u32 eip, u32 esp, u32 ebp);
  // Where the interrupted or calling user code was. The thread's kernel stack must end in a system call.
  void enter_from(VirtAddr thread, u64 rip, u64 rsp, u64 rbp, u16 cs = 0x33);

  void map(VirtAddr va, u64 size) { memory().map(va, size, tables_); }
  template <class T>
  void put(u64 va, T value) {
    memory().put(VirtAddr(va), value, tables_);
  }
  PhysAddr tables() const { return tables_; }

 private:
  Memory& memory() { return machine_.memory(); }
  void put_image(VirtAddr base, const std::vector<u8>& image);
  u64 text(const std::string& s);

  Machine& machine_;
  VirtAddr process_;
  PhysAddr tables_;
  u64 next_ = 0;
  u64 list64_ = 0, list32_ = 0;  // heads
  std::map<VirtAddr, VirtAddr> machine_frames_;
};

}  // namespace unhang::synth
