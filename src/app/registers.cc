#include "app/registers.h"

#include <algorithm>
#include <array>

#include "base/format.h"
#include "nt/objects/thread.h"

namespace unhang::app {

std::vector<RegisterValue> registers_of(const dump::CpuState& c) {
  static constexpr std::array<std::pair<const char*, dump::Gpr>, 16> kGeneral{{{"rax", dump::rax},
                                                                               {"rbx", dump::rbx},
                                                                               {"rcx", dump::rcx},
                                                                               {"rdx", dump::rdx},
                                                                               {"rsi", dump::rsi},
                                                                               {"rdi", dump::rdi},
                                                                               {"rsp", dump::rsp},
                                                                               {"rbp", dump::rbp},
                                                                               {"r8", dump::r8},
                                                                               {"r9", dump::r9},
                                                                               {"r10", dump::r10},
                                                                               {"r11", dump::r11},
                                                                               {"r12", dump::r12},
                                                                               {"r13", dump::r13},
                                                                               {"r14", dump::r14},
                                                                               {"r15", dump::r15}}};
  std::vector<RegisterValue> out;
  for (const auto& [name, index] : kGeneral) out.push_back({name, 16, c.gpr[index]});
  out.push_back({"rip", 16, c.rip});
  out.push_back({"efl", 8, c.rflags});
  const auto system = [&](u64 value) { return c.has_control ? std::optional<u64>(value) : std::nullopt; };
  // A CONTEXT that Windows saved for itself has CS and SS only.
  out.push_back({"cs", 4, c.cs.selector});
  out.push_back({"ss", 4, c.ss.selector});
  out.push_back({"ds", 4, system(c.ds.selector)});
  out.push_back({"es", 4, system(c.es.selector)});
  out.push_back({"fs", 4, system(c.fs.selector)});
  out.push_back({"gs", 4, system(c.gs.selector)});
  out.push_back({"fs_base", 16, system(c.fs.base)});
  out.push_back({"gs_base", 16, system(c.gs.base)});
  out.push_back({"kernel_gs_base", 16, c.kernel_gs_base});
  out.push_back({"cr0", 16, system(c.cr0)});
  out.push_back({"cr2", 16, system(c.cr2)});
  out.push_back({"cr3", 16, system(c.cr3)});
  out.push_back({"cr4", 16, system(c.cr4)});
  out.push_back({"cr8", 16, c.cr8});
  out.push_back({"gdtr", 16, system(c.gdt.base)});
  out.push_back({"gdtl", 4, system(c.gdt.limit)});
  out.push_back({"idtr", 16, system(c.idt.base)});
  out.push_back({"idtl", 4, system(c.idt.limit)});
  out.push_back({"tr", 4, system(c.tr.selector)});
  out.push_back({"ldtr", 4, system(c.ldt.selector)});
  for (const auto& [name, i] :
       {std::pair{"dr0", 0}, {"dr1", 1}, {"dr2", 2}, {"dr3", 3}, {"dr6", 6}, {"dr7", 7}})
    out.push_back({name, 16, c.dr ? std::optional<u64>((*c.dr)[static_cast<size_t>(i)]) : std::nullopt});
  out.push_back({"efer", 16, c.efer});
  out.push_back({"star", 16, c.star});
  out.push_back({"lstar", 16, c.lstar});
  out.push_back({"cstar", 16, c.cstar});
  out.push_back({"fmask", 16, c.fmask});
  out.push_back({"mxcsr", 8, c.mxcsr ? std::optional<u64>(*c.mxcsr) : std::nullopt});
  return out;
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
