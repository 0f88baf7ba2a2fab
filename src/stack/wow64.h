// 32-bit code in a 64-bit Windows (WOW64): where its registers are while it is in a system call, and its
// frames, which have no unwind data.
#pragma once

#include "stack/unwinder.h"

namespace unhang::stack {

struct Registers32 {
  u32 eip = 0, esp = 0, ebp = 0;
  u32 ebx = 0, esi = 0, edi = 0;  // the other registers that functions keep
};

// The 32-bit side of a thread, from its 64-bit TEB.
struct Wow64Thread {
  VirtAddr peb32{};
  u32 stack_base = 0, stack_limit = 0;
  // Saved when the thread left 32-bit code; stale while it runs there.
  Result<Registers32> saved = fail(Why::not_present, nullptr);
};

// Errors: those of reading, implausible (there is no 32-bit TEB where it has to be).
Result<Wow64Thread> read_wow64_thread(const Source<VirtAddr>& space, VirtAddr teb);

// Follows saved EBPs: inside the stack, upwards only. Every frame but the first is heuristic, or a guess when
// the code that would show a call is not there.
Unwound unwind_x86(const Registers32& start, Confidence start_trust, const Wow64Thread& thread,
                   const Source<VirtAddr>& space, const FindImage& images);

}  // namespace unhang::stack
