#include "stack/wow64.h"

#include "memory/read.h"

namespace unhang::stack {

namespace {

// The 32-bit TEB lies two pages above the 64-bit one, and the latter's NT_TIB.ExceptionList points to it
// (public: phnt, Wine's ntdll). NT_TIB32: StackBase +4, StackLimit +8, Self +0x18; PEB +0x30.
constexpr u64 kTeb32Distance = 0x2000;
constexpr u64 kStackBase32 = 4, kStackLimit32 = 8, kSelf32 = 0x18, kPeb32 = 0x30;
// TEB.TlsSlots[1] of the 64-bit TEB: WOW64_TLS_CPURESERVED of the public phnt headers. It points to
// {u16 Flags, u16 Machine} and the CONTEXT of x86 (winnt.h): offsets below are those of CONTEXT.
constexpr u64 kCpuReserved = 0x1488, kContext = 4;
constexpr u64 kEdi = 0x9c, kEsi = 0xa0, kEbx = 0xa4, kEbp = 0xb4, kEip = 0xb8, kSegCs = 0xbc, kEsp = 0xc4;
constexpr u16 kCode32 = 0x23;
constexpr size_t kMostFrames = 512;
constexpr u32 kLowestCode = 0x10000;  // nothing is ever mapped below

Result<VirtAddr> find_teb32(const Source<VirtAddr>& space, VirtAddr teb) {
  const VirtAddr near = teb + kTeb32Distance;
  const auto self = memory::read<u32>(space, near + kSelf32);
  if (self && *self == near.value()) return near;
  const VirtAddr listed = TRY(memory::read<VirtAddr>(space, teb));
  if (listed.value() >> 32 == 0 && !listed.is_null() &&
      TRY(memory::read<u32>(space, listed + kSelf32)) == listed.value())
    return listed;
  if (!self) return fail(self.error());
  return fail(Error{.why = Why::implausible, .va = near, .type = "_TEB32", .member = "NtTib.Self"});
}

Result<Registers32> read_saved(const Source<VirtAddr>& space, VirtAddr teb, const Wow64Thread& thread) {
  const VirtAddr reserved = TRY(memory::read<VirtAddr>(space, teb + kCpuReserved));
  const VirtAddr context = reserved + kContext;
  Registers32 r;
  r.eip = TRY(memory::read<u32>(space, context + kEip));
  r.esp = TRY(memory::read<u32>(space, context + kEsp));
  r.ebp = TRY(memory::read<u32>(space, context + kEbp));
  r.ebx = TRY(memory::read<u32>(space, context + kEbx));
  r.esi = TRY(memory::read<u32>(space, context + kEsi));
  r.edi = TRY(memory::read<u32>(space, context + kEdi));
  const u32 cs = TRY(memory::read<u32>(space, context + kSegCs));
  if ((cs & 0xffff) != kCode32 || r.eip < kLowestCode || r.esp < thread.stack_limit ||
      r.esp >= thread.stack_base)
    return fail(Error{.why = Why::implausible,
                      .va = context,
                      .type = "CONTEXT of 32-bit code",
                      .detail = "its registers are not of this thread's 32-bit stack"});
  return r;
}

class Chain {
 public:
  Chain(const Wow64Thread& thread, const Source<VirtAddr>& space, const FindImage& images)
      : thread_(thread), space_(space), images_(images) {}

  Unwound run(const Registers32& start, Confidence trust) {
    Unwound out;
    out.frames.push_back(
        {.ip = VirtAddr(start.eip), .sp = VirtAddr(start.esp), .kind = FrameKind::machine, .trust = trust});
    out.heuristic = true;
    u32 ebp = start.ebp;
    // System call stubs have no frame: the return address lies on top of the stack.
    if (start.esp < ebp)
      if (const auto top = word(start.esp))
        if (const auto found = return_address(*top)) add(out, *top, start.esp + 4, *found);
    u32 sp = start.esp;
    for (;;) {
      if (ebp == 0) return finish(out, StackEnd::complete);
      if (out.frames.size() >= kMostFrames) return finish(out, StackEnd::limit);
      // Frames lie above each other: a chain that goes down or leaves the stack is damage or no chain.
      if (ebp % 4 != 0 || ebp < sp || ebp < thread_.stack_limit || u64{ebp} + 8 > thread_.stack_base)
        return finish(out, StackEnd::corrupt);
      const auto saved = word(ebp), back = word(ebp + 4);
      if (!saved || !back) {
        out.error = saved ? back.error() : saved.error();
        return finish(out, StackEnd::unreadable);
      }
      if (*back == 0) return finish(out, StackEnd::complete);
      const auto found = return_address(*back);
      if (!found) {
        out.error = Error{.why = Why::implausible,
                          .va = VirtAddr(ebp),
                          .type = "EBP chain",
                          .detail = "what lies above a saved EBP is no return address"};
        return finish(out, StackEnd::no_unwind_data);
      }
      sp = ebp + 8;
      add(out, *back, sp, *found);
      ebp = *saved;
    }
  }

 private:
  Result<u32> word(u32 at) const { return memory::read<u32>(space_, VirtAddr(at)); }

  std::optional<Confidence> return_address(u32 value) const {
    if (value < kLowestCode) return std::nullopt;
    const VirtAddr va(value);
    const auto at = images_(va);
    // Code that was made at run time lies in no image.
    if (at && at->image != nullptr) {
      const image::Section* section = at->image->section(Rva(va - at->base));
      if (section == nullptr || !section->executable()) return std::nullopt;
    }
    return behind_a_call(space_, va);
  }

  static void add(Unwound& out, u32 eip, u32 esp, Confidence trust) {
    out.frames.push_back({.ip = VirtAddr(eip), .sp = VirtAddr(esp), .kind = FrameKind::scan, .trust = trust});
  }
  static Unwound& finish(Unwound& out, StackEnd end) {
    out.end = end;
    return out;
  }

  const Wow64Thread& thread_;
  const Source<VirtAddr>& space_;
  const FindImage& images_;
};

}  // namespace

Result<Wow64Thread> read_wow64_thread(const Source<VirtAddr>& space, VirtAddr teb) {
  const VirtAddr teb32 = TRY(find_teb32(space, teb));
  Wow64Thread t;
  t.stack_base = TRY(memory::read<u32>(space, teb32 + kStackBase32));
  t.stack_limit = TRY(memory::read<u32>(space, teb32 + kStackLimit32));
  t.peb32 = VirtAddr(memory::read<u32>(space, teb32 + kPeb32).value_or(0));
  if (t.stack_base <= t.stack_limit)
    return fail(Error{.why = Why::implausible, .va = teb32, .type = "_TEB32", .member = "NtTib.StackBase"});
  t.saved = read_saved(space, teb, t);
  return t;
}

Unwound unwind_x86(const Registers32& start, Confidence start_trust, const Wow64Thread& thread,
                   const Source<VirtAddr>& space, const FindImage& images) {
  return Chain(thread, space, images).run(start, start_trust);
}

}  // namespace unhang::stack
