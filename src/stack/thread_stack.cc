#include "stack/thread_stack.h"

#include "base/format.h"
#include "memory/read.h"
#include "nt/objects/loader.h"
#include "nt/objects/process.h"

namespace unhang::stack {

namespace {

// KSWITCH_FRAME at KTHREAD.KernelStack of a thread that is not running: Rbp +0x30, return address +0x38, size
// 0x40 (checked against published debugger output of Vista to Windows 10: first Child-SP = KernelStack +
// 0x40).
constexpr u64 kSwitchRbp = 0x30, kSwitchReturn = 0x38, kSwitchSize = 0x40;
constexpr u16 kCode32 = 0x23;  // CS of 32-bit code in a WOW64 process

struct ProcessContext {
  PhysAddr dtb{};
  VirtAddr peb{};
};

// The address space that a thread runs in: the process it is attached to, else its own.
ProcessContext process_of(const nt::Target& target, const nt::Thread& thread) {
  const VirtAddr process = is_kernel(thread.attached_process) ? thread.attached_process : thread.process;
  const nt::Object p(target, process);
  return {PhysAddr(p.value_or(nt::KPROCESS::DirectoryTableBase, 0)).page(),
          p.value_or(nt::EPROCESS::Peb, {})};
}

}  // namespace

StackMaker::UserSide& StackMaker::user_side(PhysAddr dtb, VirtAddr peb) {
  const auto [it, added] = users_.try_emplace(dtb);
  if (added) {
    nt::LoadedModules found = nt::read_user_modules(target_, target_.space(dtb), peb);
    for (auto& m : found.modules) it->second.modules.add(std::move(m));
    it->second.gaps = std::move(found.gaps);
  }
  return it->second;
}

std::optional<ImageAt> StackMaker::user_image(UserSide& side, const Source<VirtAddr>& space, VirtAddr va) {
  nt::Module* m = side.modules.find(va);
  if (m == nullptr) return std::nullopt;
  m->open_image(space);
  target_.look_up_symbols(*m);
  return ImageAt{m->image(), m->base()};
}

std::string StackMaker::symbolize(VirtAddr va, PhysAddr dtb, VirtAddr peb) {
  if (is_kernel(va)) {
    const auto [it, added] = kernel_symbols_.try_emplace(va);
    if (added) {
      it->second = target_.symbolize(va);
      if (it->second.empty()) it->second = hex(va);
    }
    return it->second;
  }
  UserSide& side = user_side(dtb, peb);
  const auto at = user_image(side, target_.space(dtb), va);
  if (!at) return hex(va);
  const nt::Module* m = side.modules.find(va);
  if (const auto named = m->name_of(va)) return fmt::format("{}!{}", m->name(), named->text);
  return fmt::format("{}+{:#x}", m->name(), va - m->base());
}

void StackMaker::add(ThreadStack& out, const Unwound& unwound, PhysAddr dtb, VirtAddr peb) {
  for (const Frame& f : unwound.frames) {
    out.frames.push_back(f);
    out.symbols.push_back(symbolize(f.ip, dtb, peb));
  }
  out.heuristic |= unwound.heuristic;
  out.end = unwound.end;
}

void StackMaker::go_on_in_user_mode(ThreadStack& out, Registers registers, u16 cs, PhysAddr dtb, VirtAddr peb,
                                    VirtAddr teb) {
  out.user_registers = registers;
  if ((cs & 0xfff8) == (kCode32 & 0xfff8)) {
    out.frames.push_back({.ip = registers.ip(), .sp = registers.sp(), .kind = FrameKind::machine});
    out.symbols.push_back(symbolize(registers.ip(), dtb, peb));
    out.user_end = "32-bit code: its stack is not followed";
    return;
  }
  UserSide& side = user_side(dtb, peb);
  const Source<VirtAddr>& space = target_.space(dtb);
  const FindImage images = [&](VirtAddr va) { return user_image(side, space, va); };
  // NT_TIB.StackBase of the TEB, +8: the bound for scans.
  UnwindOptions options;
  if (!teb.is_null()) options.stack_base = memory::read<VirtAddr>(space, teb + 8).value_or(VirtAddr());
  Unwound u = unwind(registers, space, images, options);
  if (!u.frames.empty()) u.frames.front().kind = FrameKind::machine;
  add(out, u, dtb, peb);
  out.user_end = u.how();
  if (!side.gaps.empty()) out.user_end += fmt::format(" ({})", side.gaps.front().why);
}

FindImage StackMaker::kernel_images() const {
  return [this](VirtAddr va) -> std::optional<ImageAt> {
    const nt::Module* m = target_.module_at(va);
    if (m == nullptr) return std::nullopt;
    return ImageAt{m->image(), m->base()};
  };
}

void StackMaker::unwind_kernel(ThreadStack& out, const Registers& start, const UnwindOptions& options,
                               PhysAddr dtb, VirtAddr peb, VirtAddr teb) {
  const Unwound u = unwind(start, target_.kernel(), kernel_images(), options);
  add(out, u, dtb, peb);
  out.kernel_end = u.how();
  if (u.end == StackEnd::user_mode) go_on_in_user_mode(out, u.registers, u.cs, dtb, peb, teb);
}

ThreadStack StackMaker::make(const dump::CpuState& state, VirtAddr stack_base, PhysAddr dtb, VirtAddr peb,
                             VirtAddr teb, std::string from) {
  ThreadStack out;
  out.start = std::move(from);
  out.from_cpu = true;
  const Registers start{.gpr = state.gpr, .rip = state.rip};
  if (state.user_mode()) {
    out.kernel_end = "in user mode: the kernel stack is empty";
    go_on_in_user_mode(out, start, state.cs.selector, dtb, peb, teb);
  } else {
    unwind_kernel(out, start, {.stack_base = stack_base}, dtb, peb, teb);
  }
  return out;
}

ThreadStack StackMaker::make(const nt::Thread& thread) {
  const ProcessContext context = process_of(target_, thread);
  ThreadStack out;
  auto without = [&](Error error) {
    out.end = StackEnd::no_context;
    out.kernel_end = text(error);
    return out;
  };
  // The thread may be current on a CPU whatever its state field says: its registers are there.
  for (const nt::Cpu& cpu : target_.cpus()) {
    if (cpu.current_thread != thread.address) continue;
    if (cpu.state)
      return make(*cpu.state, thread.stack_base, context.dtb, context.peb, thread.teb, cpu.state_from);
    return without(Error{.why = Why::not_in_dump,
                         .type = "registers",
                         .detail = "the thread is running and the dump has none for its processor"});
  }
  if (thread.state == nt::ThreadState::terminated || thread.state == nt::ThreadState::initialized)
    return without(
        Error{.why = Why::unsupported, .detail = "the thread has no stack: it has ended or not begun"});
  // A thread that says Running but is current nowhere has been switched out since: an idle thread, or a
  // smear.
  out.start =
      thread.state == nt::ThreadState::running ? "switch frame (current on no processor)" : "switch frame";
  const Source<VirtAddr>& k = target_.kernel();
  const auto rip = memory::read<u64>(k, thread.kernel_stack + kSwitchReturn);
  if (!rip) {
    Error e = rip.error();
    e.type = "kernel stack";
    return without(e);
  }
  Registers start{.rip = *rip};
  start.gpr[dump::rsp] = (thread.kernel_stack + kSwitchSize).value();
  start.gpr[dump::rbp] = memory::read<u64>(k, thread.kernel_stack + kSwitchRbp).value_or(0);
  unwind_kernel(out, start, {.stack_base = thread.stack_base, .start_is_call = true}, context.dtb,
                context.peb, thread.teb);
  return out;
}

}  // namespace unhang::stack
