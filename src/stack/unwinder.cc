#include "stack/unwinder.h"

#include "base/bytes.h"
#include "base/format.h"
#include "image/unwind_info.h"
#include "memory/read.h"

namespace unhang::stack {

namespace {

using dump::rsp;
using image::RuntimeFunction;
using image::UnwindCode;
using image::UnwindInfo;
using image::UnwindOp;

constexpr int kMostChained = 32;        // a chain that points to itself must end
constexpr u64 kRipInTrapFrame = 0x168;  // KTRAP_FRAME.Rip on every x64 build
constexpr u64 kMostScan = 0x8000;       // bytes of stack that one scan looks at

// What unwinding one frame came to.
struct Step {
  bool machine = false;  // a machine frame: RIP and RSP were loaded from it
  u16 cs = 0;
  VirtAddr trap_frame{};
  bool leaf = false;
};

std::unexpected<Error> bad(const char* detail) {
  return fail(Error{.why = Why::bad_file, .type = "UNWIND_INFO", .detail = detail});
}

class Unwinder {
 public:
  Unwinder(const Source<VirtAddr>& space, const FindImage& images, const UnwindOptions& options)
      : space_(space), images_(images), options_(options) {}

  Unwound run(const Registers& start) {
    Unwound out;
    out.frames.reserve(16);  // as most stacks are
    r_ = start;
    FrameKind kind = options_.start_is_call ? FrameKind::call : FrameKind::start;
    Confidence trust = Confidence::exact;
    for (;;) {
      if (r_.rip == 0) return finish(out, StackEnd::complete);
      if (out.frames.size() >= options_.most_frames) return finish(out, StackEnd::limit);
      out.frames.push_back({.ip = r_.ip(), .sp = r_.sp(), .kind = kind, .trust = trust});
      const VirtAddr before = r_.sp();
      const Registers saved = r_;
      const Result<Step> step = this->step(kind == FrameKind::call || kind == FrameKind::scan);
      if (!step) {
        r_ = saved;  // codes before the damage may have moved the stack pointer past the return address
        if (step.error().why == Why::bad_file || step.error().type != nullptr ||
            images_(r_.ip()) == std::nullopt) {
          // Nothing tells how this function's frame looks: look for the next return address.
          out.error = step.error();
          const auto found = scan();
          if (!found) return finish(out, StackEnd::no_unwind_data);
          out.heuristic = true;
          trust = weaker(trust, *found);
          kind = FrameKind::scan;
          continue;
        }
        out.error = step.error();
        return finish(out, StackEnd::unreadable);
      }
      kind = FrameKind::call;
      trust = weaker(trust, image_->trust());
      if (step->machine) {
        out.frames.back().trap_frame = step->trap_frame;
        out.cs = step->cs;
        kind = FrameKind::machine;
        if ((step->cs & 3) == 3) return finish(out, StackEnd::user_mode);
        // Interrupt and DPC stacks lead back to the thread's: any direction is right here.
        if (!is_canonical(r_.sp(), 5)) return finish(out, StackEnd::corrupt);
        continue;
      }
      if (r_.sp() <= before) return finish(out, StackEnd::corrupt);
    }
  }

 private:
  Unwound& finish(Unwound& out, StackEnd end) {
    out.end = end;
    out.registers = r_;
    return out;
  }

  Result<u64> load(VirtAddr at) const { return memory::read<u64>(space_, at); }

  Result<void> pop_rip() {
    r_.rip = TRY(load(r_.sp()));
    r_.gpr[rsp] += 8;
    return {};
  }

  // Unwinds the frame of r_. after_call: r_.rip is a return address, so the call before it decides which
  // function this is (it may be the last instruction of a function that never returns).
  Result<Step> step(bool after_call) {
    const auto at = images_(r_.ip());
    if (!at || at->image == nullptr)
      return fail(Error{
          .why = Why::no_symbol, .va = r_.ip(), .type = "image", .detail = "the address is in no module"});
    image_ = at->image;
    const Rva rva(r_.ip() - at->base);
    const auto function = TRY(image_->function_at(after_call ? rva - 1 : rva));
    if (!function) {
      // A leaf function has no entry and moves no stack pointer. A function that calls cannot be one.
      if (after_call)
        return fail(Error{.why = Why::no_symbol,
                          .va = r_.ip(),
                          .type = ".pdata",
                          .detail = "no unwind data for a function that calls"});
      TRY_VOID(pop_rip());
      return Step{.leaf = true};
    }
    if (!after_call && epilogue(at->base, *function)) {
      TRY_VOID(run_epilogue());
      return Step{};
    }
    return unwind_function(*function, rva);
  }

  Result<Step> unwind_function(RuntimeFunction function, Rva rva) {
    // Offset into the prologue decides which codes have been executed. Chained data describe what encloses:
    // all of it has.
    u64 offset = rva.value() - function.begin;
    for (int depth = 0; depth < kMostChained; depth++) {
      // An odd unwind address points to another RUNTIME_FUNCTION.
      if ((function.unwind & 1) != 0) {
        function = TRY(memory::read<RuntimeFunction>(image_->bytes(), Rva(function.unwind & ~u32{3})));
        continue;
      }
      auto info = image::read_unwind_info(image_->bytes(), Rva(function.unwind));
      if (!info) {
        Error e = info.error();
        if (e.type == nullptr) e.type = "UNWIND_INFO";
        return fail(e);
      }
      const auto step = TRY(apply(*info, depth == 0 ? offset : ~u64{0}));
      if (step) return *step;
      if (!info->chained) {
        TRY_VOID(pop_rip());
        return Step{};
      }
      function = *info->chained;
    }
    return bad("chained unwind data do not end");
  }

  // Undoes the codes that have been executed. A Step: a machine frame ended the function.
  Result<std::optional<Step>> apply(const UnwindInfo& info, u64 offset) {
    u64 frame = r_.gpr[rsp];
    if (info.frame_register != 0 && frame_register_set(info, offset))
      frame = r_.gpr[info.frame_register] - info.frame_offset;
    for (const UnwindCode& c : info.codes) {
      if (c.offset > offset) continue;
      switch (c.op) {
        case UnwindOp::push_nonvol:
          r_.gpr[c.info] = TRY(load(r_.sp()));
          if (c.info != rsp) r_.gpr[rsp] += 8;
          break;
        case UnwindOp::alloc_small:
        case UnwindOp::alloc_large:
          r_.gpr[rsp] += c.operand;
          break;
        case UnwindOp::set_fpreg:
          r_.gpr[rsp] = r_.gpr[info.frame_register] - info.frame_offset;
          break;
        case UnwindOp::save_nonvol:
        case UnwindOp::save_nonvol_far:
          r_.gpr[c.info] = TRY(load(VirtAddr(frame + c.operand)));
          break;
        case UnwindOp::save_xmm128:
        case UnwindOp::save_xmm128_far:
          break;
        case UnwindOp::push_machframe: {
          // 0: RIP CS EFLAGS RSP SS; 1: an error code before them.
          const VirtAddr rip_at = r_.sp() + (c.info != 0 ? 8 : 0);
          const u64 rip = TRY(load(rip_at));
          const u64 cs = TRY(load(rip_at + 8));
          const u64 sp = TRY(load(rip_at + 24));
          r_.rip = rip;
          r_.gpr[rsp] = sp;
          return Step{.machine = true, .cs = static_cast<u16>(cs), .trap_frame = rip_at - kRipInTrapFrame};
        }
        case UnwindOp::epilog:
        case UnwindOp::spare:
          break;
      }
    }
    return std::optional<Step>();
  }

  static bool frame_register_set(const UnwindInfo& info, u64 offset) {
    // A chained part does not set the register: what it is chained to has, long before.
    if (offset >= info.prolog_size || info.chained) return true;
    for (const UnwindCode& c : info.codes)
      if (c.op == UnwindOp::set_fpreg) return c.offset <= offset;
    return false;
  }

  // ---- epilogues: recognised by their instructions, which have one fixed form ----
  //   add rsp, imm | lea rsp, [reg + disp]   (optional, first)
  //   pop reg ...                            (any number)
  //   ret | jmp out of the function

  struct EpilogueOp {
    enum Kind { add_rsp, lea_rsp, pop, ret } kind;
    u8 reg = 0;
    i64 value = 0;
  };

  // Where the function begins that a part belongs to: at the end of its chain.
  std::optional<u32> primary(RuntimeFunction part) const {
    for (int depth = 0; depth < kMostChained; depth++) {
      if ((part.unwind & 1) != 0) {
        const auto other = memory::read<RuntimeFunction>(image_->bytes(), Rva(part.unwind & ~u32{3}));
        if (!other) return std::nullopt;
        part = *other;
        continue;
      }
      const auto info = image::read_unwind_info(image_->bytes(), Rva(part.unwind));
      if (!info) return std::nullopt;
      if (!info->chained) return part.begin;
      part = *info->chained;
    }
    return std::nullopt;
  }

  // Whether a jump goes to another function, or to the beginning of its own. Optimised kernels (Windows 8 and
  // later) keep the cold parts of a function far away; jumps between its parts happen with the frame in
  // place.
  bool leaves(const RuntimeFunction& from, Rva target) const {
    const auto function = image_->function_at(target);
    if (function && !*function) return true;
    const auto home = primary(from);
    const auto there = function ? primary(**function) : std::nullopt;
    if (!home || !there) return target.value() == from.begin || !from.contains(target);
    return *there != *home || target.value() == *home;
  }

  bool epilogue(VirtAddr base, const RuntimeFunction& function) {
    epilogue_.clear();
    std::array<u8, 64> code{};
    const auto some = memory::read_some(image_->bytes(), Rva(r_.ip() - base), std::span<u8>(code));
    const ByteView b(code.data(), some.size);
    u64 at = 0;
    bool first = true;
    while (at + 1 <= b.size()) {
      const u8 rex = (b.at<u8>(at) & 0xf0) == 0x40 ? b.at<u8>(at) : 0;
      const u64 op = at + (rex != 0 ? 1 : 0);
      const u8 o = b.at<u8>(op), modrm = b.at<u8>(op + 1);
      if (first && (rex & 8) != 0 && o == 0x83 && modrm == 0xc4) {  // add rsp, imm8
        epilogue_.push_back({EpilogueOp::add_rsp, 0, b.at<i8>(op + 2)});
        at = op + 3;
      } else if (first && (rex & 8) != 0 && o == 0x81 && modrm == 0xc4) {  // add rsp, imm32
        epilogue_.push_back({EpilogueOp::add_rsp, 0, b.at<i32>(op + 2)});
        at = op + 6;
      } else if (first && (rex & 8) != 0 && o == 0x8d && (modrm & 0x38) == 0x20 &&
                 (modrm & 7) != 4) {  // lea rsp, [reg+disp]
        const u8 reg = static_cast<u8>((modrm & 7) | ((rex & 1) != 0 ? 8 : 0));
        if ((modrm & 0xc0) == 0x40) {
          epilogue_.push_back({EpilogueOp::lea_rsp, reg, b.at<i8>(op + 2)});
          at = op + 3;
        } else if ((modrm & 0xc0) == 0x80) {
          epilogue_.push_back({EpilogueOp::lea_rsp, reg, b.at<i32>(op + 2)});
          at = op + 6;
        } else if ((modrm & 0xc0) == 0 && (modrm & 7) != 5) {
          epilogue_.push_back({EpilogueOp::lea_rsp, reg, 0});
          at = op + 2;
        } else {
          return false;
        }
      } else if ((o & 0xf8) == 0x58) {  // pop reg
        epilogue_.push_back({EpilogueOp::pop, static_cast<u8>((o & 7) | ((rex & 1) != 0 ? 8 : 0)), 0});
        at = op + 1;
      } else if (o == 0xc3 || o == 0xc2 || (o == 0xf3 && modrm == 0xc3)) {  // ret, ret imm16, rep ret
        epilogue_.push_back({EpilogueOp::ret, 0, 0});
        return true;
      } else if (o == 0xe9 || o == 0xeb) {  // jmp: a tail call when it leaves the function
        const i64 displacement = o == 0xeb ? b.at<i8>(op + 1) : b.at<i32>(op + 1);
        const VirtAddr target = r_.ip() + op + (o == 0xeb ? 2 : 5) + static_cast<u64>(displacement);
        if (!leaves(function, Rva(target - base))) return false;
        epilogue_.push_back({EpilogueOp::ret, 0, 0});
        return true;
      } else if (o == 0xff && (modrm & 0x38) == 0x20 &&
                 ((rex & 8) != 0 || (modrm == 0x25 && !epilogue_.empty()))) {
        // A tail call through a pointer. Compilers mark it with REX.W, which the instruction does not need;
        // without the mark it may be a switch.
        epilogue_.push_back({EpilogueOp::ret, 0, 0});
        return true;
      } else {
        return false;
      }
      first = false;
    }
    return false;
  }

  Result<void> run_epilogue() {
    for (const EpilogueOp& op : epilogue_) {
      switch (op.kind) {
        case EpilogueOp::add_rsp:
          r_.gpr[rsp] += static_cast<u64>(op.value);
          break;
        case EpilogueOp::lea_rsp:
          r_.gpr[rsp] = r_.gpr[op.reg] + static_cast<u64>(op.value);
          break;
        case EpilogueOp::pop:
          r_.gpr[op.reg] = TRY(load(r_.sp()));
          if (op.reg != rsp) r_.gpr[rsp] += 8;
          break;
        case EpilogueOp::ret:
          return pop_rip();
      }
    }
    return {};
  }

  // ---- scan ----

  // How surely a value is a return address: heuristic when it points into code right behind a call
  // instruction. A triage dump holds stacks but hardly any code (19041: .text and even the PE headers are
  // absent); there a value inside of a module is a guess. Functions and most objects begin at multiples of
  // 16, so pointers to them, which lie on stacks in numbers, are left out at the price of one return address
  // in sixteen.
  std::optional<Confidence> looks_like_return(VirtAddr va) const {
    const auto at = images_(va);
    if (!at) return dynamic(va) ? behind_a_call(space_, va) : std::nullopt;
    if (at->image != nullptr) {
      const image::Section* section = at->image->section(Rva(va - at->base));
      if (section == nullptr || !section->executable()) return std::nullopt;
    }
    return behind_a_call(space_, va);
  }

  bool dynamic(VirtAddr va) const { return options_.dynamic_code && options_.dynamic_code(va); }

  // The first end above the stack pointer; null when there is none.
  VirtAddr end_of_stack() const {
    VirtAddr end;
    for (const VirtAddr e : options_.stack_ends)
      if (e > r_.sp() && (end.is_null() || e < end)) end = e;
    return end;
  }

  // Code made at run time has unwind data that only its maker finds. Its frames mostly keep RBP as a frame
  // pointer: right when a return address lies above the RBP that was saved.
  std::optional<Confidence> by_frame_pointer() {
    const VirtAddr frame(r_.gpr[dump::rbp]);
    if (!dynamic(r_.ip()) || frame.value() % 8 != 0 || frame < r_.sp() || frame >= end_of_stack())
      return std::nullopt;
    const auto saved = load(frame), back = load(frame + 8);
    if (!saved || !back || (images_(VirtAddr(*back)) == std::nullopt && !dynamic(VirtAddr(*back))))
      return std::nullopt;
    const auto found = looks_like_return(VirtAddr(*back));
    if (!found) return std::nullopt;
    r_.rip = *back;
    r_.gpr[rsp] = (frame + 16).value();
    r_.gpr[dump::rbp] = *saved;
    return found;
  }

  std::optional<Confidence> scan() {
    const VirtAddr end = end_of_stack();
    if (end.is_null()) return std::nullopt;
    if (const auto found = by_frame_pointer()) return found;
    VirtAddr at((r_.gpr[rsp] + 7) & ~u64{7});
    for (u64 n = 0; n < kMostScan && at < end; n += 8, at += 8) {
      const auto v = load(at);
      if (!v) return std::nullopt;
      const auto found = looks_like_return(VirtAddr(*v));
      if (!found) continue;
      r_.rip = *v;
      r_.gpr[rsp] = (at + 8).value();
      return found;
    }
    return std::nullopt;
  }

  const Source<VirtAddr>& space_;
  const FindImage& images_;
  const UnwindOptions& options_;
  Registers r_;
  const image::Image* image_ = nullptr;
  std::vector<EpilogueOp> epilogue_;
};

}  // namespace

std::optional<Confidence> behind_a_call(const Source<VirtAddr>& space, VirtAddr va) {
  std::array<u8, 7> before{};
  if (const auto read = memory::read_exact(space, va - 7, before); !read) {
    if (va.value() % 16 == 0) return std::nullopt;
    return Confidence::guess;
  }
  const u8* p = before.data();
  bool call = p[2] == 0xe8;            // call rel32
  for (const int n : {2, 3, 4, 6, 7})  // call r/m64 of 2, 3, 4, 6, 7 bytes
    call |= p[7 - n] == 0xff && (p[8 - n] & 0x38) == 0x10;
  call |= p[4] == 0x41 && p[5] == 0xff && (p[6] & 0x38) == 0x10;  // call r8..r15
  if (!call) return std::nullopt;
  return Confidence::heuristic;
}

std::string Unwound::how() const {
  switch (end) {
    case StackEnd::complete:
      return "complete";
    case StackEnd::user_mode:
      return "continues in user mode";
    case StackEnd::no_unwind_data:
      return "no unwind data: " + text(error);
    case StackEnd::unreadable:
      return "the stack cannot be read: " + text(error);
    case StackEnd::corrupt:
      return "the stack pointer did not move up: damaged or torn stack";
    case StackEnd::limit:
      return fmt::format("stopped after {} frames", frames.size());
    case StackEnd::no_context:
      return "no registers: " + text(error);
  }
  return "";
}

Unwound unwind(const Registers& start, const Source<VirtAddr>& space, const FindImage& images,
               const UnwindOptions& options) {
  return Unwinder(space, images, options).run(start);
}

}  // namespace unhang::stack
