#include "stack/thread_stack.h"

#include <algorithm>

#include "base/format.h"
#include "memory/address_space.h"
#include "memory/read.h"
#include "nt/objects/cpu.h"
#include "nt/objects/process.h"

namespace unhang::stack {

namespace {

// KSWITCH_FRAME at KTHREAD.KernelStack of a thread that is not running: Rbp +0x30, return address +0x38, size
// 0x40 (checked against published debugger output of Vista to Windows 10: first Child-SP = KernelStack +
// 0x40).
constexpr u64 kSwitchRbp = 0x30, kSwitchReturn = 0x38, kSwitchSize = 0x40;
constexpr u16 kCode32 = 0x23;  // CS of 32-bit code in a WOW64 process

// The runtimes of .NET: Framework 4, Core, Framework 2.
constexpr const char* kRuntimes[] = {"clr.dll", "coreclr.dll", "mscorwks.dll"};

}  // namespace

// The address space that a thread runs in: the process it is attached to, else its own.
StackMaker::User StackMaker::user_of(const nt::Target& target, const nt::Thread& thread) {
  const VirtAddr process = is_kernel(thread.attached_process) ? thread.attached_process : thread.process;
  const nt::Object p(target, process);
  return {.dtb = PhysAddr(p.value_or(nt::KPROCESS::DirectoryTableBase, 0)).page(),
          .peb = p.value_or(nt::EPROCESS::Peb, {}),
          .teb = thread.teb,
          .wow64 = p.value_or(nt::EPROCESS::Wow64Process, {})};
}

void StackMaker::add_modules(UserSide& side, nt::LoadedModules found) {
  for (auto& m : found.modules) {
    // 64-bit and 32-bit ntdll in one process: the second one is called by its base, as debuggers do.
    const nt::Module* other = side.modules.find_name(m->name());
    if (other != nullptr && other->base() != m->base())
      m->set_name(fmt::format("{}_{:x}", m->name(), m->base().value()));
    side.modules.add(std::move(m));
  }
  for (Gap& g : found.gaps) side.gaps.push_back(std::move(g));
  for (const char* name : kRuntimes) side.clr |= side.modules.find_name(name) != nullptr;
}

StackMaker::UserSide& StackMaker::user_side(PhysAddr dtb, VirtAddr peb) {
  const auto [it, added] = users_.try_emplace(dtb);
  if (added) add_modules(it->second, nt::read_user_modules(target_, target_.space(dtb), peb));
  return it->second;
}

void StackMaker::add_x86_modules(UserSide& side, PhysAddr dtb, VirtAddr peb32) {
  if (side.has_x86 || peb32.is_null()) return;
  side.has_x86 = true;
  add_modules(side, nt::read_user_modules32(target_, target_.space(dtb), peb32));
}

std::vector<const nt::Module*> StackMaker::modules_of(PhysAddr dtb, VirtAddr peb, VirtAddr wow64) {
  UserSide& side = user_side(dtb, peb);
  if (!wow64.is_null()) add_x86_modules(side, dtb, nt::peb32_of(target_, wow64));
  std::vector<const nt::Module*> out;
  for (const auto& m : side.modules.all()) {
    user_image(side, target_.space(dtb), m->base());
    out.push_back(m.get());
  }
  return out;
}

std::optional<ImageAt> StackMaker::user_image(UserSide& side, const Source<VirtAddr>& space, VirtAddr va) {
  nt::Module* m = side.modules.find(va);
  if (m == nullptr) return std::nullopt;
  target_.open_image(*m, space);
  target_.look_up_symbols(*m);
  return ImageAt{m->image(), m->base()};
}

// Executable in every level of the page tables (bit 63 of an entry forbids it) and in no image. Pages that
// are not there are not known to be code.
bool StackMaker::dynamic_code(PhysAddr dtb, VirtAddr va) {
  const auto it = users_.find(dtb);
  if (it == users_.end() || !it->second.clr || is_kernel(va) || it->second.modules.find(va) != nullptr)
    return false;
  const auto* space = dynamic_cast<const memory::AddressSpace*>(&target_.space(dtb));
  if (space == nullptr) return false;
  const memory::Walk walk = space->walk(va);
  if (!walk.mapping || walk.mapping->via != memory::Via::valid) return false;
  return std::none_of(walk.steps.begin(), walk.steps.end(),
                      [](const memory::Step& s) { return s.entry >> 63 != 0; });
}

std::string StackMaker::symbolize(VirtAddr va, PhysAddr dtb, VirtAddr peb) {
  const nt::Module* module = nullptr;
  return std::string(symbolize(va, dtb, peb, module));
}

std::string_view StackMaker::symbolize(VirtAddr va, PhysAddr dtb, VirtAddr peb, const nt::Module*& module) {
  if (is_kernel(va)) {
    module = target_.module_at(va);
    const auto [it, added] = kernel_symbols_.try_emplace(va);
    if (added) {
      it->second = target_.symbolize(va);
      if (it->second.empty()) it->second = hex(va);
    }
    return it->second;
  }
  UserSide& side = user_side(dtb, peb);
  const auto at = user_image(side, target_.space(dtb), va);
  const auto kept = [&](std::string text) {
    return std::string_view(*user_symbols_.insert(std::move(text)).first);
  };
  if (!at) return kept(dynamic_code(dtb, va) ? hex(va) + " [JIT/dynamic code]" : hex(va));
  module = side.modules.find(va);
  if (const auto named = module->name_of(va)) return kept(fmt::format("{}!{}", module->name(), named->text));
  return kept(fmt::format("{}+{:#x}", module->name(), va - module->base()));
}

void StackMaker::add(ThreadStack& out, const Unwound& unwound, const User& user) {
  const size_t count = out.frames.size() + unwound.frames.size();
  out.frames.reserve(count);
  out.symbols.reserve(count);
  out.modules.reserve(count);
  for (const Frame& f : unwound.frames) {
    const nt::Module* module = nullptr;
    out.frames.push_back(f);
    out.symbols.push_back(symbolize(f.ip, user.dtb, user.peb, module));
    out.modules.push_back(module);
  }
  out.heuristic |= unwound.heuristic;
  out.end = unwound.end;
}

// registers: when the thread was interrupted in 32-bit code; else those that it saved on its way out of it.
void StackMaker::go_on_in_x86(ThreadStack& out, std::optional<Registers32> registers, const User& user) {
  UserSide& side = user_side(user.dtb, user.peb);
  const Source<VirtAddr>& space = target_.space(user.dtb);
  const auto thread = user.teb.is_null()
                          ? Result<Wow64Thread>(fail(Why::not_present, "the thread has no TEB"))
                          : read_wow64_thread(space, user.teb);
  add_x86_modules(side, user.dtb, thread ? thread->peb32 : nt::peb32_of(target_, user.wow64));
  auto end = [&](const std::string& how) {
    out.user_end += fmt::format("{}32-bit part: {}", out.user_end.empty() ? "" : "; ", how);
  };
  if (!registers && thread && thread->saved) registers = *thread->saved;
  if (!thread || !registers) {
    // Where it was interrupted is known all the same.
    if (registers) {
      Unwound one;
      one.frames.push_back(
          {.ip = VirtAddr(registers->eip), .sp = VirtAddr(registers->esp), .kind = FrameKind::machine});
      add(out, one, user);
    }
    out.end = StackEnd::no_context;
    end(text(thread ? thread->saved.error() : thread.error()));
    return;
  }
  out.user_registers32 = registers;
  const Confidence trust = out.user_end.empty() ? Confidence::exact : Confidence::derived;
  const FindImage images = [&](VirtAddr va) { return user_image(side, space, va); };
  const Unwound u = unwind_x86(*registers, trust, *thread, space, images);
  add(out, u, user);
  end(u.how());
}

void StackMaker::go_on_in_user_mode(ThreadStack& out, Registers registers, u16 cs, const User& user) {
  out.user_registers = registers;
  UserSide& side = user_side(user.dtb, user.peb);
  if ((cs & 0xfff8) == (kCode32 & 0xfff8)) {
    const Registers32 r{static_cast<u32>(registers.rip),
                        static_cast<u32>(registers.gpr[dump::rsp]),
                        static_cast<u32>(registers.gpr[dump::rbp]),
                        static_cast<u32>(registers.gpr[dump::rbx]),
                        static_cast<u32>(registers.gpr[dump::rsi]),
                        static_cast<u32>(registers.gpr[dump::rdi])};
    go_on_in_x86(out, r, user);
    return;
  }
  const Source<VirtAddr>& space = target_.space(user.dtb);
  // The 64-bit unwinder knows nothing of 32-bit images.
  const FindImage images = [&](VirtAddr va) {
    const auto at = user_image(side, space, va);
    return at && at->image != nullptr && at->image->x86() ? std::nullopt : at;
  };
  // NT_TIB.StackBase of the TEB, +8: the bound for scans.
  UnwindOptions options;
  if (!user.teb.is_null())
    options.stack_ends = {memory::read<VirtAddr>(space, user.teb + 8).value_or(VirtAddr())};
  if (side.clr) options.dynamic_code = [&](VirtAddr va) { return dynamic_code(user.dtb, va); };
  Unwound u = unwind(registers, space, images, options);
  if (!u.frames.empty()) u.frames.front().kind = FrameKind::machine;
  add(out, u, user);
  out.user_end = u.how();
  if (!side.gaps.empty()) out.user_end += fmt::format(" ({})", side.gaps.front().why);
  // The 64-bit part of such a thread is what makes its system calls; the program's own part is 32-bit.
  if (!user.wow64.is_null()) go_on_in_x86(out, std::nullopt, user);
}

FindImage StackMaker::kernel_images() const {
  return [this](VirtAddr va) -> std::optional<ImageAt> {
    const nt::Module* m = target_.module_at(va);
    if (m == nullptr) return std::nullopt;
    return ImageAt{m->image(), m->base()};
  };
}

void StackMaker::unwind_kernel(ThreadStack& out, const Registers& start, const UnwindOptions& options,
                               const User& user) {
  const Unwound u = unwind(start, target_.kernel(), kernel_images(), options);
  add(out, u, user);
  out.kernel_stop = u.end;
  out.kernel_end = u.how();
  if (u.end == StackEnd::user_mode) go_on_in_user_mode(out, u.registers, u.cs, user);
}

ThreadStack StackMaker::make(const nt::Cpu& cpu, VirtAddr stack_base, const User& user) {
  const dump::CpuState& state = *cpu.state;
  ThreadStack out;
  out.start = cpu.state_from;
  out.from_cpu = true;
  const Registers start{.gpr = state.gpr, .rip = state.rip};
  if (state.user_mode()) {
    out.kernel_stop = StackEnd::user_mode;
    out.kernel_end = "in user mode: the kernel stack is empty";
    go_on_in_user_mode(out, start, state.cs.selector, user);
  } else {
    UnwindOptions options{.stack_ends = nt::interrupt_stacks(target_, cpu)};
    options.stack_ends.push_back(stack_base);
    unwind_kernel(out, start, options, user);
  }
  return out;
}

ThreadStack StackMaker::make(const nt::Thread& thread) {
  const User user = user_of(target_, thread);
  ThreadStack out;
  auto without = [&](Error error) {
    out.end = StackEnd::no_context;
    out.kernel_end = text(error);
    return out;
  };
  // The thread may be current on a CPU whatever its state field says: its registers are there.
  for (const nt::Cpu& cpu : target_.cpus()) {
    if (cpu.current_thread != thread.address) continue;
    if (cpu.state) return make(cpu, thread.stack_base, user);
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
  unwind_kernel(out, start, {.stack_ends = {thread.stack_base}, .start_is_call = true}, user);
  return out;
}

}  // namespace unhang::stack
