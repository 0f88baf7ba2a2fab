#include "dump/migration_cpu.h"

namespace unhang::dump {

namespace {

Segment segment(const Device& d, const std::string& name, u64 element = 0) {
  // The known layout has no names inside of a segment: {u32 selector; u64 base; u32 limit; u32 flags}.
  if (!d.fields.contains(name + ".selector")) {
    const auto it = d.fields.find(name);
    if (it == d.fields.end()) return {};
    const ByteView b = d.body.from(it->second.offset + element * it->second.size);
    return {.selector = static_cast<u16>(b.be<u32>(0).value_or(0)),
            .limit = b.be<u32>(12).value_or(0),
            .flags = b.be<u32>(16).value_or(0),
            .base = b.be<u64>(4).value_or(0)};
  }
  const auto get = [&](const char* field) { return d.get(name + field, element).value_or(0); };
  return {.selector = static_cast<u16>(get(".selector")),
          .limit = static_cast<u32>(get(".limit")),
          .flags = static_cast<u32>(get(".flags")),
          .base = get(".base")};
}

std::optional<std::array<Xmm, 16>> xmm_registers(const Device& d) {
  // QEMU renamed the array several times (env.xmm_regs, env.xmm_regs[0]); the element's size tells it from
  // the upper halves, which stand in an array of their own.
  for (const char* name : {"env.xmm_regs[0]", "env.xmm_regs"}) {
    const auto it = d.fields.find(name);
    if (it == d.fields.end() || it->second.size != 16 || it->second.count < 16) continue;
    std::array<Xmm, 16> out;
    for (size_t i = 0; i < 16; i++) {
      const ByteView b = d.body.from(it->second.offset + i * 16);
      const auto low = b.be<u64>(0), high = b.be<u64>(8);
      if (!low || !high) return std::nullopt;
      out[i] = {*low, *high};
    }
    return out;
  }
  return std::nullopt;
}

template <size_t N>
std::optional<std::array<u64, N>> array(const Device& d, const char* name) {
  std::array<u64, N> out{};
  for (size_t i = 0; i < N; i++) {
    const auto v = d.get(name, i);
    if (!v) return std::nullopt;
    out[i] = *v;
  }
  return out;
}

CpuState read_cpu(const Device& d) {
  CpuState c;
  // The order of env.regs is the encoding order of x86-64, as ours.
  for (size_t i = 0; i < 16; i++) c.gpr[i] = d.get("env.regs", i).value_or(0);
  c.rip = d.get("env.eip").value_or(0);
  c.rflags = d.get("env.eflags").value_or(0);
  Segment* segments[] = {&c.es, &c.cs, &c.ss, &c.ds, &c.fs, &c.gs};
  for (size_t i = 0; i < 6; i++) *segments[i] = segment(d, "env.segs", i);
  c.ldt = segment(d, "env.ldt");
  c.tr = segment(d, "env.tr");
  c.gdt = segment(d, "env.gdt");
  c.idt = segment(d, "env.idt");
  c.cr0 = d.get("env.cr[0]").value_or(0);
  c.cr2 = d.get("env.cr[2]").value_or(0);
  c.cr3 = d.get("env.cr[3]").value_or(0);
  c.cr4 = d.get("env.cr[4]").value_or(0);
  c.has_control = d.get("env.cr[3]").has_value();
  c.kernel_gs_base = d.get("env.kernelgsbase");
  c.efer = d.get("env.efer");
  c.star = d.get("env.star");
  c.lstar = d.get("env.lstar");
  c.cstar = d.get("env.cstar");
  c.fmask = d.get("env.fmask");
  c.dr = array<8>(d, "env.dr");
  c.xmm = xmm_registers(d);
  if (const auto v = d.get("env.mxcsr")) c.mxcsr = static_cast<u32>(*v);
  c.hyperv_crash = array<5>(d, "env.msr_hv_crash_params");
  return c;
}

}  // namespace

std::vector<CpuState> read_cpus(const Devices& devices) {
  std::vector<CpuState> cpus;
  std::optional<bool> halted;
  for (const Device& d : devices.list) {
    if (d.name == "cpu_common") {
      // Stands before its "cpu".
      if (const auto v = d.get("halted")) halted = *v != 0;
    } else if (d.name == "cpu") {
      cpus.push_back(read_cpu(d));
      cpus.back().halted = halted;
      halted.reset();
    } else if (d.name == "apic" && !cpus.empty()) {
      // Stands behind its "cpu"; its number is the APIC's, which need not be the CPU's. CR8 is the upper half
      // of the task priority: the IRQL.
      if (const auto v = d.get("tpr")) cpus.back().cr8 = *v >> 4;
    }
  }
  return cpus;
}

}  // namespace unhang::dump
