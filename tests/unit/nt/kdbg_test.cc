// KDDEBUGGER_DATA64 as real kernels keep it: encoded, and no symbols to say by what.
#include "nt/kdbg.h"

#include <gtest/gtest.h>

#include "nt/target.h"
#include "synth/damage.h"
#include "synth/scene.h"

namespace unhang {
namespace {

std::unique_ptr<nt::Target> open(synth::Scene& scene) {
  auto target = nt::Target::open(scene.machine->dump(), {});
  EXPECT_TRUE(target.has_value());
  return std::move(*target);
}

TEST(Kdbg, EncodedWithoutSymbolsIsTheSameAsPlain) {
  for (const char* build : {"6.3.9600.19913", "10.0.14393.4583", "10.0.19041.804", "10.0.22631.2428"}) {
    synth::Scene plain = synth::healthy({.build = build, .encode_kdbg = false});
    synth::Scene encoded = synth::healthy({.build = build, .encode_kdbg = true});
    const auto a = open(plain), b = open(encoded);
    ASSERT_TRUE(a->kdbg() && b->kdbg()) << build;
    EXPECT_EQ(a->kdbg()->how(), "scan of nt's data");
    EXPECT_EQ(b->kdbg()->how(), "scan of nt's data, decoded by the kernel base in it");
    EXPECT_EQ(a->kdbg()->va(), b->kdbg()->va());
    const auto pa = a->kdbg()->view().span(), pb = b->kdbg()->view().span();
    EXPECT_TRUE(std::equal(pa.begin(), pa.end(), pb.begin(), pb.end())) << build;
  }
}

// The machine writes its block when it is dumped: changes are made to the dump's memory.
std::unique_ptr<nt::Target> open_changed(synth::Scene& scene, u64 field, u64 flip) {
  const VirtAddr at = scene.machine->symbol("KdDebuggerDataBlock") + field;
  dump::DumpFile d = scene.machine->dump();
  const u64 value = scene.machine->memory().get<u64>(at) ^ flip;
  const PhysAddr pa = PhysAddr(scene.machine->memory().pte(at) & 0x000F'FFFF'FFFF'F000) + at.page_offset();
  static_cast<synth::Pages&>(*d.physical)
      .write(pa, std::span(reinterpret_cast<const u8*>(&value), sizeof value));
  auto target = nt::Target::open(std::move(d), {});
  EXPECT_TRUE(target.has_value());
  return std::move(*target);
}

// Two blocks on the list: its links differ, and every place is tried.
TEST(Kdbg, NotAloneOnItsList) {
  synth::Scene scene = synth::healthy({.encode_kdbg = true});
  const auto target = open_changed(scene, 0, 0x1000);
  ASSERT_TRUE(target->kdbg());
  EXPECT_EQ(target->kdbg()->va(), scene.machine->symbol("KdDebuggerDataBlock"));
}

// The page with the kernel's PE header is not in the dump: nothing but KDBG says where the kernel begins.
TEST(Kdbg, NamesAKernelWithoutAHeader) {
  for (const bool encoded : {false, true})
    for (const char* build : {"6.1.7601.24540", "10.0.14393.4583", "10.0.22631.2428"}) {
      synth::Scene scene = synth::healthy({.build = build, .encode_kdbg = encoded});
      const VirtAddr base = open(scene)->kernel_base();
      const auto target = nt::Target::open(
          synth::without_page(*scene.machine, Pfn(scene.machine->memory().pte(base) >> 12 & 0xfffffff)), {});
      ASSERT_TRUE(target.has_value()) << build << text(target.error());
      EXPECT_EQ((*target)->kernel_base(), base);
      ASSERT_TRUE((*target)->kdbg()) << build;
      EXPECT_EQ((*target)->kdbg()->va(), scene.machine->symbol("KdDebuggerDataBlock"));
    }
}

// One field changed is another key: nothing is believed.
TEST(Kdbg, DamagedIsNotFound) {
  for (const u64 field : {0x10, 0x18, 0x48, 0x50, 0x218}) {
    synth::Scene scene = synth::healthy({.encode_kdbg = true});
    EXPECT_FALSE(open_changed(scene, field, 0x0123'4567'89ab'cdef)->kdbg()) << field;
  }
}

}  // namespace
}  // namespace unhang
