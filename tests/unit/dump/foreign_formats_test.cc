// Forms that other hypervisors and tools write, built here byte by byte: LiME, VMware, VirtualBox. No real
// file of them was at hand.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/format.h"
#include "capture.h"
#include "dump/dump_file.h"

namespace unhang::dump {
namespace {

class Bytes {
 public:
  template <class T>
  Bytes& add(T value) {
    const auto* p = reinterpret_cast<const u8*>(&value);
    bytes_.insert(bytes_.end(), p, p + sizeof value);
    return *this;
  }
  Bytes& text(std::string_view s, size_t room = 0) {
    bytes_.insert(bytes_.end(), s.begin(), s.end());
    bytes_.resize(bytes_.size() + (room > s.size() ? room - s.size() : 0));
    return *this;
  }
  Bytes& page(u8 value, size_t pages = 1) {
    bytes_.insert(bytes_.end(), pages * kPageSize, value);
    return *this;
  }
  Bytes& pad(size_t to) {
    bytes_.resize(std::max(bytes_.size(), to));
    return *this;
  }
  template <class T>
  Bytes& put(size_t at, T value) {
    pad(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
    return *this;
  }
  Bytes& append(const Bytes& other) {
    bytes_.insert(bytes_.end(), other.bytes_.begin(), other.bytes_.end());
    return *this;
  }
  size_t size() const { return bytes_.size(); }
  const std::vector<u8>& bytes() const { return bytes_; }
  std::shared_ptr<const File> file(const char* name = "test") const { return File::from_bytes(bytes_, name); }

 private:
  std::vector<u8> bytes_;
};

int byte_at(const DumpFile& d, u64 pa) {
  const auto slice = d.physical->at(PhysAddr(pa));
  return slice ? slice->data[0] : -1;
}

bool has_gap(const DumpFile& d, std::string_view word) {
  return std::ranges::any_of(d.gaps, [&](const Gap& g) { return g.why.find(word) != std::string::npos; });
}

// Every size of the file up to the end of its headers, and around each page behind them.
void truncate_everywhere(const Bytes& whole, size_t headers) {
  const auto file = whole.file();
  for (u64 size = 1; size < whole.size(); size += size < headers || size % kPageSize < 40 ? 1 : 333)
    survives(cut(*file, size), fmt::format("cut at {}", size));
}

// ---- LiME

Bytes& lime_range(Bytes& b, u64 first, u64 last, u32 version = 1, const char* magic = "EMiL") {
  return b.text(magic).add(version).add(first).add(last).add(u64{0});
}

Bytes lime() {
  Bytes b;
  lime_range(b, 0x1000, 0x2fff).page(0xA0).page(0xA1);
  lime_range(b, 0x100000000, 0x100000fff).page(0xB0);
  return b;
}

TEST(Lime, Ranges) {
  const auto d = open_dump(lime().file());
  ASSERT_TRUE(d) << text(d.error());
  EXPECT_EQ(d->format, "lime");
  EXPECT_NE(d->description.find("not checked"), std::string::npos);
  EXPECT_EQ(byte_at(*d, 0x1000), 0xA0);
  EXPECT_EQ(byte_at(*d, 0x2fff), 0xA1);
  EXPECT_EQ(byte_at(*d, 0x100000000), 0xB0);
  EXPECT_EQ(byte_at(*d, 0x3000), -1);
  EXPECT_EQ(byte_at(*d, 0), -1);
  ASSERT_EQ(d->gaps.size(), 1u);
  EXPECT_EQ(d->gaps[0].what, "CPU registers");
}

TEST(Lime, LyingRanges) {
  Bytes b;
  EXPECT_FALSE(open_dump(lime_range(b, 0x2000, 0x1000).page(1).file()));
  b = {};
  EXPECT_FALSE(open_dump(lime_range(b, 0, ~u64{0}).page(1).file()));
  b = {};
  EXPECT_FALSE(open_dump(lime_range(b, 0, 0xfff, 2).page(1).file()));
  b = {};
  survives(lime_range(b, ~u64{0} - 10, ~u64{0}).page(1).file(), "at the end of the address space");
  b = {};
  survives(lime_range(b, 1, ~u64{0}).page(1).file(), "nearly all addresses");
  for (const char* magic : {"EMiL", "NOPE"}) {
    b = lime();
    lime_range(b, 0x5000, 0x4000, 1, magic).page(1);
    const auto d = open_dump(b.file());
    ASSERT_TRUE(d);
    EXPECT_EQ(d->gaps.size(), 2u);
    EXPECT_EQ(byte_at(*d, 0x1000), 0xA0);
  }
}

TEST(Lime, Truncated) {
  truncate_everywhere(lime(), 64);
  const auto d = open_dump(cut(*lime().file(), 32 + 0x1800));
  ASSERT_TRUE(d);
  EXPECT_TRUE(has_gap(*d, "truncated"));
  EXPECT_EQ(byte_at(*d, 0x1000), 0xA0);
  const auto in_header = open_dump(cut(*lime().file(), 32 + 0x2000 + 5));
  ASSERT_TRUE(in_header);
  EXPECT_TRUE(has_gap(*in_header, "truncated"));
}

// ---- VMware

void tag(Bytes& b, std::string_view name, std::vector<u32> index, u8 size) {
  b.add(static_cast<u16>(name.size() << 8 | index.size() << 6 | size)).text(name);
  for (const u32 i : index) b.add(i);
}
void tag32(Bytes& b, std::string_view name, std::vector<u32> index, u32 value) {
  tag(b, name, std::move(index), 4);
  b.add(value);
}
void tag64(Bytes& b, std::string_view name, std::vector<u32> index, u64 value) {
  tag(b, name, std::move(index), 8);
  b.add(value);
}
void block(Bytes& b, std::string_view name, std::vector<u32> index, const Bytes& value, u16 padding = 0,
           u8 kind = 63) {
  tag(b, name, std::move(index), kind);
  b.add(u64{value.size()}).add(u64{value.size()}).add(padding).pad(b.size() + padding).append(value);
}

enum class Registers { single, blocks };

Bytes cpu_group(Registers form) {
  Bytes b;
  tag32(b, "cpu:numVCPUs", {}, 2);
  constexpr const char* kNames[] = {"rax", "rcx", "rdx", "rbx", "rbp", "rsp", "rsi", "rdi",
                                    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  for (u32 cpu = 0; cpu < 2; cpu++) {
    const u64 base = u64{cpu} << 56;
    Bytes all;
    for (u64 i = 0; i < 16; i++) {
      all.add(base + i + 1);
      if (form == Registers::single) tag64(b, kNames[i], {cpu}, base + i + 1);
    }
    if (form == Registers::blocks) block(b, "gpregs", {cpu}, all);
    tag64(b, "rip", {cpu}, base + 0x100);
    tag32(b, "eflags", {cpu}, 0x246);
    Bytes control, idt;
    for (u64 i = 0; i < 9; i++) {
      control.add(base + 0x1000 + i);
      if (form == Registers::single && i < 5) tag64(b, "CR64", {cpu, static_cast<u32>(i)}, base + 0x1000 + i);
    }
    if (form == Registers::blocks) block(b, "CR64", {cpu}, control, 6);
    block(b, "IDTR", {cpu}, idt.add(u16{0xfff}).add(base + 0x2000));
    tag(b, "S", {cpu, 1}, 2);
    b.add(u16{0x10});
    tag64(b, "S.base64", {cpu, 5}, base + 0x3000);
    tag32(b, "somethingElse", {cpu, 1, 2}, 7);
  }
  return b.add(u16{0});
}

// regions: 2 pages at 0, 1 page at 4 GiB.
Bytes memory_group(bool inside, u8 kind = 63) {
  Bytes b;
  tag32(b, "align_mask", {}, 0xffff);
  tag32(b, "regionsCount", {}, 2);
  tag32(b, "regionPageNum", {0}, 0);
  tag32(b, "regionPPN", {0}, 0);
  tag32(b, "regionSize", {0}, 2);
  tag32(b, "regionPageNum", {1}, 2);
  tag32(b, "regionPPN", {1}, 0x100000);
  tag32(b, "regionSize", {1}, 1);
  if (inside) {
    Bytes image;
    block(b, "Memory", {0, 0}, image.page(0xC0).page(0xC1).page(0xC2), 9, kind);
  }
  return b.add(u16{0});
}

Bytes vmware(const Bytes& cpu, const Bytes& memory, u32 magic = 0xbed2bed2) {
  Bytes b;
  b.add(magic).add(u32{8}).add(u32{3});
  const u64 at = 12 + 3 * 80;
  b.text("cpu", 64).add(at).add(u64{cpu.size()});
  b.text("Other", 64).add(~u64{0}).add(u64{1});
  b.text("memory", 64).add(at + cpu.size()).add(u64{memory.size()});
  return b.append(cpu).append(memory);
}

void expect_vmware(const DumpFile& d) {
  EXPECT_EQ(d.format, "vmware");
  EXPECT_TRUE(d.gaps.empty());
  EXPECT_NE(d.description.find("not checked"), std::string::npos);
  EXPECT_EQ(byte_at(d, 0), 0xC0);
  EXPECT_EQ(byte_at(d, 0x1fff), 0xC1);
  EXPECT_EQ(byte_at(d, 0x2000), -1);
  EXPECT_EQ(byte_at(d, 0x100000000), 0xC2);
  ASSERT_EQ(d.cpus.size(), 2u);
  for (u64 cpu = 0; cpu < 2; cpu++) {
    const CpuState& c = d.cpus[cpu];
    const u64 base = cpu << 56;
    EXPECT_EQ(c.gpr[rax], base + 1);
    EXPECT_EQ(c.gpr[rbx], base + 4);
    EXPECT_EQ(c.gpr[rbp], base + 5);
    EXPECT_EQ(c.gpr[rsp], base + 6);
    EXPECT_EQ(c.gpr[rdi], base + 8);
    EXPECT_EQ(c.gpr[r15], base + 16);
    EXPECT_EQ(c.rip, base + 0x100);
    EXPECT_EQ(c.rflags, 0x246u);
    EXPECT_EQ(c.cr0, base + 0x1000);
    EXPECT_EQ(c.cr3, base + 0x1003);
    EXPECT_EQ(c.cr4, base + 0x1004);
    EXPECT_EQ(c.idt.base, base + 0x2000);
    EXPECT_EQ(c.cs.selector, 0x10);
    EXPECT_EQ(c.gs.base, base + 0x3000);
    EXPECT_TRUE(c.has_control);
    EXPECT_FALSE(c.kernel_gs_base);
  }
}

TEST(Vmware, MemoryInside) {
  for (const Registers form : {Registers::single, Registers::blocks}) {
    const auto d = open_dump(vmware(cpu_group(form), memory_group(true)).file());
    ASSERT_TRUE(d) << text(d.error());
    expect_vmware(*d);
  }
}

TEST(Vmware, MemoryBeside) {
  const std::string folder = testing::TempDir() + "unhang-vmware-" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, const Bytes& b) {
    std::ofstream(folder + "/" + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(b.bytes().data()), static_cast<std::streamsize>(b.size()));
  };
  const Bytes state = vmware(cpu_group(Registers::blocks), memory_group(false));
  write("vm.vmss", state);
  const auto alone = open_dump(folder + "/vm.vmss");
  ASSERT_FALSE(alone);
  EXPECT_NE(text(alone.error()).find(".vmem"), std::string::npos);
  Bytes image;
  write("vm.vmem", image.page(0xC0).page(0xC1).page(0xC2));
  for (const char* name : {"/vm.vmss", "/vm.vmem"}) {
    const auto d = open_dump(folder + name);
    ASSERT_TRUE(d) << text(d.error());
    expect_vmware(*d);
  }
  std::filesystem::rename(folder + "/vm.vmss", folder + "/vm.vmsn");
  const auto snapshot = open_dump(folder + "/vm.vmem");
  ASSERT_TRUE(snapshot);
  EXPECT_NE(snapshot->description.find("snapshot"), std::string::npos);
  expect_vmware(*snapshot);
  std::filesystem::resize_file(folder + "/vm.vmem", 0x1800);
  const auto short_memory = open_dump(folder + "/vm.vmsn");
  ASSERT_TRUE(short_memory);
  EXPECT_TRUE(has_gap(*short_memory, "truncated"));
  EXPECT_EQ(byte_at(*short_memory, 0x100000000), -1);
  // Without its state a .vmem is raw memory.
  std::filesystem::remove(folder + "/vm.vmsn");
  write("vm.vmem", Bytes().pad(1 << 20));
  const auto raw = open_dump(folder + "/vm.vmem");
  ASSERT_TRUE(raw);
  EXPECT_EQ(raw->format, "raw");
  std::filesystem::remove_all(folder);
}

TEST(Vmware, WithoutRegionsMemoryHasNoHoles) {
  Bytes memory, image;
  block(memory, "Memory", {}, image.page(0xC0).page(0xC1));
  const auto d = open_dump(vmware(cpu_group(Registers::single), memory.add(u16{0})).file());
  ASSERT_TRUE(d) << text(d.error());
  EXPECT_EQ(byte_at(*d, 0x1000), 0xC1);
}

TEST(Vmware, WhatIsNotReadIsNamed) {
  const Bytes cpu = cpu_group(Registers::single);
  const auto compressed = open_dump(vmware(cpu, memory_group(true, 62)).file());
  ASSERT_FALSE(compressed);
  EXPECT_EQ(compressed.error().why, Why::unsupported);
  EXPECT_NE(text(compressed.error()).find("compressed"), std::string::npos);
  EXPECT_FALSE(open_dump(vmware(cpu, memory_group(true), 0xbed0bed0).file()));
  const auto partial = open_dump(vmware(cpu, memory_group(true), 0xbed3bed3).file());
  ASSERT_TRUE(partial);
  EXPECT_TRUE(has_gap(*partial, "not finished"));
  for (const u32 magic : {0xbad1bad1, 0xbad2bad2}) {
    const auto d = open_dump(vmware(cpu, memory_group(true), magic).file());
    ASSERT_TRUE(d);
    expect_vmware(*d);
  }
}

TEST(Vmware, LyingCounts) {
  const Bytes good = vmware(cpu_group(Registers::single), memory_group(true));
  const auto file = good.file();
  for (const u32 groups : {0U, 1U, 4U, 4096U, 5000U, 0xFFFFFFFFU})
    survives(patched(*file, 8, &groups, 4), fmt::format("{} groups", groups));
  for (const u64 position : {u64{0}, good.size() - 1, good.size(), ~u64{0}, ~u64{0} - 1})
    for (const u64 group : {u64{0}, u64{2}})
      survives(patched(*file, 12 + group * 80 + 64, &position, 8), fmt::format("position {:#x}", position));
  // Each byte of the tags and of what they say, as large and as small as can be.
  const u64 first = 12 + 240, last = first + cpu_group(Registers::single).size() + 260;
  for (u64 at = first; at < last; at++)
    for (const u8 value : {u8{0}, u8{1}, u8{0x3F}, u8{0x7F}, u8{0xFF}})
      survives(patched(*file, at, &value, 1), fmt::format("byte {} is {:#x}", at, value));
  for (const u32 value : {0U, 3U, 5000U, 0xFFFFFFFFU}) {
    Bytes memory;
    tag32(memory, "regionsCount", {}, value);
    tag32(memory, "regionPPN", {0}, value);
    tag32(memory, "regionSize", {0}, value);
    tag32(memory, "regionSize", {0xFFFFFFFF}, value);
    survives(vmware(cpu_group(Registers::single), memory.add(u16{0})).file(),
             fmt::format("regions {}", value));
  }
}

TEST(Vmware, Truncated) {
  const Bytes b = vmware(cpu_group(Registers::blocks), memory_group(true));
  truncate_everywhere(b, b.size() - 3 * kPageSize);
  const auto d = open_dump(cut(*b.file(), b.size() - 5000));
  ASSERT_TRUE(d);
  EXPECT_TRUE(has_gap(*d, "truncated"));
  EXPECT_EQ(byte_at(*d, 0), 0xC0);
}

// ---- VirtualBox

Bytes virtualbox_cpu(u64 base, bool extended) {
  Bytes c;
  for (u64 i = 0; i < 14; i++) c.put(i * 8, base + i + 1);  // rax rbx rcx rdx rsi rdi r8 ...
  c.put(112, base + 0x100).put(120, base + 0x200).put(128, base + 0x300).put(136, u64{0x246});
  c.put(144, base + 0).put(144 + 16, u16{0x10});            // cs
  c.put(240, base + 0x3000).put(240 + 8, u32{0xFFFFFFFF});  // gs
  c.put(304, base + 0x1000).put(312, u64{0x6f8});           // cr3, cr4
  c.put(320 + 7 * 8, u64{0x400});                           // dr7
  c.put(400, base + 0x2000).put(408, u32{0xfff});           // idtr
  c.put(488, u64{0xd01}).put(512, base + 0x5000).put(536, base + 0x4000);
  c.pad(584);
  if (extended) {
    c.put(576, u32{832})
        .put(584 + 24, u32{0x1f80})
        .put(584 + 160 + 6 * 16, u64{66})
        .put(584 + 168 + 6 * 16, u64{67});
    c.pad(584 + 832);
  }
  return c;
}

void note(Bytes& b, std::string_view name, u32 type, const Bytes& desc) {
  b.add(static_cast<u32>(name.size()))
      .add(static_cast<u32>(desc.size()))
      .add(type)
      .text(name, 8)
      .append(desc);
}

Bytes virtualbox(u32 version = 0x00010006, u32 magic = 0xc01ac0de, bool extended = true) {
  Bytes notes, descriptor;
  descriptor.add(magic).add(version).add(u32{24}).add(u32{7 << 24}).add(u32{150000}).add(u32{2});
  note(notes, "VBCORE", 0xb00, descriptor);
  for (u64 cpu = 0; cpu < 2; cpu++) note(notes, "VBCPU", 0xb01, virtualbox_cpu(cpu << 56, extended));
  Bytes b;
  b.text(
      "\x7f"
      "ELF\2\1\1",
      16);
  b.add(u16{4}).add(u16{62}).add(u32{1}).add(u64{0}).add(u64{64}).add(u64{0}).add(u32{0});
  b.add(u16{64}).add(u16{56}).add(u16{4}).add(u16{0}).add(u16{0}).add(u16{0});
  const u64 notes_at = 64 + 4 * 56, memory = notes_at + notes.size();
  const auto program = [&](u32 type, u64 offset, u64 pa, u64 in_file, u64 size) {
    b.add(type).add(u32{4}).add(offset).add(u64{0}).add(pa).add(in_file).add(size).add(u64{0});
  };
  program(4, notes_at, 0, notes.size(), notes.size());
  program(1, memory, 0, 0x2000, 0x2000);
  program(1, memory + 0x2000, 0xe0000000, 0, 0x1000000);  // MMIO
  program(1, memory + 0x2000, 0x100000000, 0x1000, 0x1000);
  return b.append(notes).page(0xD0).page(0xD1).page(0xD2);
}

TEST(VirtualBox, CoreWithItsNotes) {
  const auto d = open_dump(virtualbox().file());
  ASSERT_TRUE(d) << text(d.error());
  EXPECT_EQ(d->format, "elf-core");
  EXPECT_NE(d->description.find("VirtualBox, not checked"), std::string::npos) << d->description;
  EXPECT_TRUE(d->gaps.empty());
  EXPECT_EQ(byte_at(*d, 0x1000), 0xD1);
  EXPECT_EQ(byte_at(*d, 0xe0000000), -1);
  EXPECT_EQ(byte_at(*d, 0x100000000), 0xD2);
  ASSERT_EQ(d->cpus.size(), 2u);
  for (u64 cpu = 0; cpu < 2; cpu++) {
    const CpuState& c = d->cpus[cpu];
    const u64 base = cpu << 56;
    EXPECT_EQ(c.gpr[rax], base + 1);
    EXPECT_EQ(c.gpr[rbx], base + 2);
    EXPECT_EQ(c.gpr[rdi], base + 6);
    EXPECT_EQ(c.gpr[r15], base + 14);
    EXPECT_EQ(c.rip, base + 0x100);
    EXPECT_EQ(c.gpr[rsp], base + 0x200);
    EXPECT_EQ(c.gpr[rbp], base + 0x300);
    EXPECT_EQ(c.cs.selector, 0x10);
    EXPECT_EQ(c.gs.base, base + 0x3000);
    EXPECT_EQ(c.gs.limit, 0xFFFFFFFFu);
    EXPECT_EQ(c.cr3, base + 0x1000);
    EXPECT_EQ(c.cr4, 0x6f8u);
    EXPECT_EQ((*c.dr)[7], 0x400u);
    EXPECT_EQ(c.idt.base, base + 0x2000);
    EXPECT_EQ(c.lstar, base + 0x5000);
    EXPECT_EQ(c.kernel_gs_base, base + 0x4000);
    EXPECT_EQ(c.mxcsr, 0x1f80u);
    EXPECT_EQ((*c.xmm)[6], (Xmm{66, 67}));
    EXPECT_TRUE(c.has_control);
  }
}

TEST(VirtualBox, OlderVersionsHaveNoXmm) {
  const auto d = open_dump(virtualbox(0x00010003).file());
  ASSERT_TRUE(d);
  ASSERT_EQ(d->cpus.size(), 2u);
  EXPECT_FALSE(d->cpus[0].xmm);
  const auto bare = open_dump(virtualbox(0x00010006, 0xc01ac0de, false).file());
  ASSERT_TRUE(bare);
  ASSERT_EQ(bare->cpus.size(), 2u);
  EXPECT_FALSE(bare->cpus[0].xmm);
}

TEST(VirtualBox, UnknownVersionsAreAGap) {
  for (const auto& [version, magic] : {std::pair(0x00020000U, 0xc01ac0deU), std::pair(0x00010006U, 1U)}) {
    const auto d = open_dump(virtualbox(version, magic).file());
    ASSERT_TRUE(d);
    EXPECT_TRUE(d->cpus.empty());
    EXPECT_TRUE(has_gap(*d, "unknown version"));
    EXPECT_EQ(byte_at(*d, 0), 0xD0);
  }
}

TEST(VirtualBox, Truncated) {
  const Bytes b = virtualbox();
  truncate_everywhere(b, b.size() - 3 * kPageSize);
}

// Files that people give by mistake, as long as a dump and as whole in pages.
TEST(Foreign, Named) {
  using namespace std::string_view_literals;
  const struct {
    std::string_view signature;
    size_t offset;
    const char* words;
  } kFiles[] = {
      {"vhdxfile"sv, 0, "disk image"},      {"KDMV"sv, 0, ".vmem"},         {"NTFS    "sv, 3, "disk image"},
      {"EFI PART"sv, 512, "disk image"},    {"PK\x03\x04"sv, 0, "archive"}, {"ustar"sv, 257, "archive"},
      {"\x0a\x0d\x0d\x0a"sv, 0, "capture"}, {"wake"sv, 0, "hibernation"},   {"XenSavedDomain"sv, 0, "Xen"},
      {"\x14\x20\x28\x01"sv, 0, "Hyper-V"}, {"AVML"sv, 0, "avml-convert"}};
  for (const auto& f : kFiles) {
    Bytes b;
    b.pad(f.offset).text(f.signature).pad(4 << 20);
    const auto d = open_dump(b.file());
    ASSERT_FALSE(d.has_value()) << f.signature;
    EXPECT_NE(text(d.error()).find(f.words), std::string::npos) << text(d.error());
  }
}

// A copy that broke off: memory all the same.
TEST(RawMemory, OfAnySizeIsReadAsFarAsItGoes) {
  std::vector<u8> bytes((2 << 20) + 77, 0);
  bytes[kPageSize] = 'x';
  const auto dump = open_dump(File::from_bytes(bytes, "part"));
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_EQ(dump->physical->at(PhysAddr(kPageSize))->data[0], 'x');
  EXPECT_TRUE(dump->physical->at(PhysAddr(2 << 20)));
  EXPECT_FALSE(dump->physical->at(PhysAddr((2 << 20) + 77)));
  ASSERT_FALSE(dump->gaps.empty());
  EXPECT_NE(dump->gaps[0].why.find("middle of a page"), std::string::npos);
}

}  // namespace
}  // namespace unhang::dump
