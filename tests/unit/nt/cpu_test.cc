// Processors whose registers are not Windows'.
#include "nt/objects/cpu.h"

#include "synth/scene.h"
#include "synth/session.h"

namespace unhang {
namespace {

using synth::Machine;

// Puts a processor into a hypervisor inside of the guest: page tables, an IDT and an image of its own.
void enter_hypervisor(Machine& m, u32 processor, bool named) {
  constexpr VirtAddr kImage(0xfffff800'00000000), kIdt(0xfffffe80'00000000);
  synth::Memory& memory = m.memory();
  // Nothing of Windows is mapped there.
  const PhysAddr tables = PhysAddr(memory.new_page().value << kPageShift);
  synth::ImageBuilder builder(named ? "hvix64.exe" : "", {});
  const auto function = builder.add_function("HvHandler");
  const auto bytes = builder.build();
  memory.map(kImage, bytes.size(), tables);
  memory.write(kImage, bytes.data(), bytes.size(), tables);
  memory.map(kIdt, kPageSize, tables);
  const u64 handler = kImage.value() + function.begin;
  for (u64 v = 0; v < 32; v++) {
    memory.put<u16>(kIdt + v * 16, static_cast<u16>(handler), tables);
    memory.put<u16>(kIdt + v * 16 + 6, static_cast<u16>(handler >> 16), tables);
    memory.put<u32>(kIdt + v * 16 + 8, static_cast<u32>(handler >> 32), tables);
  }
  dump::CpuState& s = m.registers(processor);
  s.cr3 = tables.value();
  s.idt.base = kIdt.value();
  s.rip = handler;
  s.gs.base = 0xffffe800'00001000;
  s.kernel_gs_base.reset();
}

std::string gap_of(const nt::Target& target, const std::string& what) {
  for (const Gap& g : target.gaps())
    if (g.what == what) return g.why;
  return "";
}

TEST(Cpus, OneThatAHypervisorHad) {
  synth::Scene scene = synth::healthy({});
  enter_hypervisor(*scene.machine, 0, true);
  const auto session = synth::open_session(scene.machine->dump());
  ASSERT_NE(session, nullptr);
  const nt::Target& t = session->target();
  ASSERT_EQ(t.cpus().size(), 2u) << "Windows' own list of processors has it";
  EXPECT_FALSE(t.cpus()[0].state);
  EXPECT_TRUE(is_kernel(t.cpus()[0].current_thread));
  EXPECT_TRUE(t.cpus()[1].state);
  EXPECT_EQ(
      gap_of(t, "CPU 0 of the dump"),
      "it ran hvix64.exe when the dump was taken, which holds Windows' registers where they cannot be read");
}

TEST(Cpus, AllInAHypervisorWithoutAName) {
  synth::Scene scene = synth::healthy({});
  for (const u32 cpu : {0, 1}) enter_hypervisor(*scene.machine, cpu, false);
  const auto session = synth::open_session(scene.machine->dump());
  ASSERT_NE(session, nullptr) << "Windows is found without the processors";
  const nt::Target& t = session->target();
  EXPECT_EQ(t.cpus().size(), 2u);
  EXPECT_NE(gap_of(t, "CPU 1 of the dump").find("firmware or a hypervisor"), std::string::npos);
}

TEST(Cpus, OneThatWasNotStarted) {
  synth::Scene scene = synth::healthy({});
  dump::DumpFile d = scene.machine->dump();
  dump::CpuState& s = d.cpus.emplace_back();
  s.has_control = true;
  s.rip = 0xfff0;
  s.cr0 = 0x60000010;
  const auto session = synth::open_session(std::move(d));
  ASSERT_NE(session, nullptr);
  EXPECT_EQ(session->target().cpus().size(), 2u);
  EXPECT_NE(gap_of(session->target(), "CPU 2 of the dump").find("not started"), std::string::npos);
}

// Virtualization-based security shows as a process; a program of that name is not it.
TEST(Cpus, VirtualizationBasedSecurityIsSaid) {
  for (const u64 parent : {4, 500}) {
    synth::Scene scene = synth::healthy({});
    scene.machine->add_process("Secure System", 72, std::nullopt, parent);
    const auto session = synth::open_session(scene.machine->dump());
    ASSERT_NE(session, nullptr);
    const bool said = std::ranges::any_of(
        session->world().gaps, [](const Gap& g) { return g.what == "virtualization-based security"; });
    EXPECT_EQ(said, parent == 4);
  }
}

}  // namespace
}  // namespace unhang
