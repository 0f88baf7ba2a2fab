#include "app/registers.h"

#include <algorithm>

#include "base/format.h"
#include "nt/objects/thread.h"

namespace unhang::app {

std::vector<RegisterValue> registers_of(const dump::CpuState& c) {
  const auto system = [&](u64 value) { return c.has_control ? std::optional<u64>(value) : std::nullopt; };
  const auto debug = [&](size_t i) { return c.dr ? std::optional<u64>((*c.dr)[i]) : std::nullopt; };
  return {{"rax", c.gpr[dump::rax]},
          {"rbx", c.gpr[dump::rbx]},
          {"rcx", c.gpr[dump::rcx]},
          {"rdx", c.gpr[dump::rdx]},
          {"rsi", c.gpr[dump::rsi]},
          {"rdi", c.gpr[dump::rdi]},
          {"rsp", c.gpr[dump::rsp]},
          {"rbp", c.gpr[dump::rbp]},
          {"r8", c.gpr[dump::r8]},
          {"r9", c.gpr[dump::r9]},
          {"r10", c.gpr[dump::r10]},
          {"r11", c.gpr[dump::r11]},
          {"r12", c.gpr[dump::r12]},
          {"r13", c.gpr[dump::r13]},
          {"r14", c.gpr[dump::r14]},
          {"r15", c.gpr[dump::r15]},
          {"rip", c.rip},
          {"efl", c.rflags},
          // A CONTEXT that Windows saved for itself has CS and SS only.
          {"cs", c.cs.selector},
          {"ss", c.ss.selector},
          {"ds", system(c.ds.selector)},
          {"es", system(c.es.selector)},
          {"fs", system(c.fs.selector)},
          {"gs", system(c.gs.selector)},
          {"fs_base", system(c.fs.base)},
          {"gs_base", system(c.gs.base)},
          {"kernel_gs_base", c.kernel_gs_base},
          {"cr0", system(c.cr0)},
          {"cr2", system(c.cr2)},
          {"cr3", system(c.cr3)},
          {"cr4", system(c.cr4)},
          {"cr8", c.cr8},
          {"gdtr", system(c.gdt.base)},
          {"gdtl", system(c.gdt.limit)},
          {"idtr", system(c.idt.base)},
          {"idtl", system(c.idt.limit)},
          {"tr", system(c.tr.selector)},
          {"ldtr", system(c.ldt.selector)},
          {"dr0", debug(0)},
          {"dr1", debug(1)},
          {"dr2", debug(2)},
          {"dr3", debug(3)},
          {"dr6", debug(6)},
          {"dr7", debug(7)},
          {"efer", c.efer},
          {"star", c.star},
          {"lstar", c.lstar},
          {"cstar", c.cstar},
          {"fmask", c.fmask},
          {"mxcsr", c.mxcsr}};
}

Node registers_node(const dump::CpuState& c) {
  Node n = Node::map();
  for (const RegisterValue& r : registers_of(c)) n[r.name] = r.value ? Node(VirtAddr(*r.value)) : Node();
  Node& xmm = n["xmm"];
  if (c.xmm)
    for (const dump::Xmm& x : *c.xmm) xmm.add(fmt::format("0x{:016x}{:016x}", x.high, x.low));
  n["halted"] = c.halted ? Node(*c.halted) : Node();
  Node& crash = n["hyperv_crash"];
  if (c.hyperv_crash)
    for (const u64 p : *c.hyperv_crash) crash.add(VirtAddr(p));
  return n;
}

std::optional<Result<u64>> ThreadRegisters::find(std::string_view name) const {
  const auto all = registers_of(cpu != nullptr ? *cpu->state : dump::CpuState{});
  const auto r = std::find_if(all.begin(), all.end(), [&](const RegisterValue& v) { return name == v.name; });
  if (r == all.end()) return std::nullopt;
  if (cpu == nullptr && name == "rip") return rip;
  if (cpu == nullptr && name == "rsp") return rsp;
  if (cpu != nullptr && r->value) return *r->value;
  return fail(Error{.why = Why::not_in_dump,
                    .type = r->name,
                    .detail = cpu != nullptr ? "this form of dump does not hold it"
                                             : "the thread is not running: its rip and rsp alone are known"});
}

Result<ThreadRegisters> current_registers(Session& session) {
  const VirtAddr va = session.current_thread();
  for (const nt::Cpu& cpu : session.target().cpus())
    if (cpu.current_thread == va && cpu.state)
      return ThreadRegisters{.cpu = &cpu, .rip = cpu.state->rip, .rsp = cpu.state->gpr[dump::rsp]};
  const stack::ThreadStack s = session.stacks().make(TRY(nt::read_thread(session.target(), va)));
  if (s.frames.empty())
    return fail(Error{.why = Why::not_in_dump, .type = "registers", .detail = "of the current thread"});
  return ThreadRegisters{.rip = s.frames[0].ip.value(), .rsp = s.frames[0].sp.value()};
}

}  // namespace unhang::app
