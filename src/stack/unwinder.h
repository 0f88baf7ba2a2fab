// The x64 unwinder: registers, a reader, and the unwind data of the images in the dump. It knows nothing of
// threads or symbols; stack/thread_stack.h starts it.
//
// Source: Microsoft, "x64 exception handling" (unwind codes, epilogue forms, chained data, machine frames).
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/confidence.h"
#include "base/source.h"
#include "dump/cpu_state.h"
#include "image/image.h"

namespace unhang::stack {

struct Registers {
  std::array<u64, 16> gpr{};  // dump::Gpr order
  u64 rip = 0;
  VirtAddr ip() const { return VirtAddr(rip); }
  VirtAddr sp() const { return VirtAddr(gpr[dump::rsp]); }
};

// How a frame was found.
enum class FrameKind : u8 {
  start,    // the registers that we began with
  call,     // the return address that unwind data led to
  machine,  // behind a trap or interrupt: the interrupted instruction
  scan,     // a value on the stack that looks like a return address
};

struct Frame {
  VirtAddr ip{};
  VirtAddr sp{};
  FrameKind kind = FrameKind::start;
  Confidence trust = Confidence::exact;
  VirtAddr trap_frame{};  // KTRAP_FRAME that leads to the next frame, when there is one
};

enum class StackEnd : u8 {
  complete,        // return address 0, or user code that we do not follow
  user_mode,       // crossed into user mode: the caller goes on in another address space
  no_unwind_data,  // no image, or its unwind data is missing
  unreadable,      // the stack itself cannot be read
  corrupt,         // the stack pointer went backwards or left the address space
  limit,
  no_context,  // no registers to start from
};

struct Unwound {
  std::vector<Frame> frames;
  StackEnd end = StackEnd::complete;
  Error error{};
  Registers registers;     // at the end: for going on in user mode
  u16 cs = 0;              // of the machine frame that ended it
  bool heuristic = false;  // some frame was found by scanning
  std::string how() const;
};

struct ImageAt {
  const image::Image* image = nullptr;
  VirtAddr base{};
};
using FindImage = std::function<std::optional<ImageAt>(VirtAddr)>;

struct UnwindOptions {
  size_t most_frames = 512;
  // Where the stacks end that it may be on, for scans: a scan stops at the first one above. None: no scan.
  std::vector<VirtAddr> stack_ends = {};
  // The first frame is a return address (a switched-out thread) rather than an interrupted instruction.
  bool start_is_call = false;
  // Whether an address is code that was made at run time, outside of every image. Empty: no.
  std::function<bool(VirtAddr)> dynamic_code;
};

// What a value is as a return address, judged by the call before it: heuristic, guess when the code cannot be
// read, nothing when it is none.
std::optional<Confidence> behind_a_call(const Source<VirtAddr>& space, VirtAddr va);

Unwound unwind(const Registers& start, const Source<VirtAddr>& space, const FindImage& images,
               const UnwindOptions& options);

}  // namespace unhang::stack
