// QEMU migration streams as virsh writes them, and streams with a stated shape: several RAM blocks, pages
// that were sent twice, capabilities.
#include <algorithm>

#include "base/format.h"
#include "capture.h"

namespace unhang::dump {
namespace {

class Migration : public testing::TestWithParam<const char*> {};

TEST_P(Migration, HoldsTheSameMachineAsTheElfCoreAndMoreOfItsRegisters) {
  NEED_CAPTURE(GetParam());
  const auto dump = open_dump(capture(GetParam()));
  ASSERT_TRUE(dump) << text(dump.error());
  for (const Gap& g : dump->gaps) ADD_FAILURE() << g.what << ": " << g.why;
  expect_registers(*dump, true);
  const Compared c = expect_same_memory(*dump);
  EXPECT_EQ(c.missing, 0u);
  EXPECT_EQ(c.extra, 0u);
  EXPECT_EQ(c.same, 32768u - 13);
  EXPECT_EQ(c.other_boot, 13u);
}

TEST_P(Migration, SurvivesTruncationAnywhere) {
  NEED_CAPTURE(GetParam());
  const auto file = capture(GetParam());
  std::vector<u64> sizes;
  for (u64 s = 0; s < 400; s++) sizes.push_back(s);
  for (u64 s = 400; s < file->size(); s += file->size() / 300) sizes.push_back(s);
  for (u64 s = file->size() - 130000; s < file->size(); s += 997) sizes.push_back(s);
  for (const u64 s : sizes) survives(cut(*file, s), fmt::format("{} cut at {}", GetParam(), s));
}

INSTANTIATE_TEST_SUITE_P(Captures, Migration,
                         testing::Values("virsh-dump-plain.qevm", "virsh-dump-plain-live.qevm"));

constexpr const char* kPlain = "virsh-dump-plain.qevm";

u64 end_of_devices(const File& file) {
  const std::string_view s(reinterpret_cast<const char*>(file.bytes().data()), file.size());
  return s.find("{\"page_size\"") - 6;
}

TEST(MigrationFile, WithoutItsDescriptionTheKnownLayoutOfTheCpuIsUsed) {
  NEED_CAPTURE(kPlain);
  const auto file = capture(kPlain);
  const auto dump = open_dump(cut(*file, end_of_devices(*file)));
  ASSERT_TRUE(dump) << text(dump.error());
  expect_registers(*dump, true);
  ASSERT_EQ(dump->gaps.size(), 1u);
  EXPECT_NE(dump->gaps[0].why.find("does not describe itself"), std::string::npos);
}

TEST(MigrationFile, ATruncatedStreamHasPagesButSaysThatTheyMayBeOld) {
  NEED_CAPTURE(kPlain);
  const auto dump = open_dump(cut(*capture(kPlain), 1 << 20));
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_TRUE(dump->cpus.empty());
  ASSERT_FALSE(dump->gaps.empty());
  EXPECT_NE(dump->gaps[0].why.find("truncated"), std::string::npos);
  EXPECT_TRUE(dump->physical->at(PhysAddr(0)));
  const auto far = dump->physical->at(PhysAddr(0x1130000));
  ASSERT_FALSE(far);
  EXPECT_EQ(far.error().why, Why::not_in_dump);
}

// --- streams made here
// --------------------------------------------------------------------------------------

class Stream {
 public:
  explicit Stream(std::string_view machine) {
    text("QEVM").be(3, 4).be(7, 1).be(machine.size(), 4).text(machine);
    be(1, 1).be(2, 4).name("ram").be(0, 4).be(4, 4);
  }
  Stream& be(u64 v, int size) {
    for (int i = size - 1; i >= 0; i--) bytes.push_back(static_cast<u8>(v >> (8 * i)));
    return *this;
  }
  Stream& text(std::string_view s) {
    bytes.insert(bytes.end(), s.begin(), s.end());
    return *this;
  }
  Stream& name(std::string_view s) { return be(s.size(), 1).text(s); }
  Stream& blocks(const std::vector<std::pair<std::string, u64>>& list, int extra = 0) {
    u64 total = 0;
    for (const auto& b : list) total += b.second;
    be(total | 4, 8);
    for (const auto& b : list) {
      name(b.first).be(b.second, 8);
      for (int i = 0; i < extra; i++) be(0, 1);
    }
    return *this;
  }
  // A page whose first byte is `mark`.
  Stream& page(std::string_view block, u64 address, u8 mark) {
    be(address | 8, 8).name(block);
    bytes.push_back(mark);
    bytes.resize(bytes.size() + kPageSize - 1);
    return *this;
  }
  Stream& zero(std::string_view block, u64 address) { return be(address | 2, 8).name(block).be(0, 1); }
  Stream& part() { return be(0x10, 8).be(0x7e, 1).be(2, 4).be(2, 1).be(2, 4); }
  Stream& end() {
    return be(0x10, 8).be(0x7e, 1).be(2, 4).be(3, 1).be(2, 4).be(0x10, 8).be(0x7e, 1).be(2, 4).be(0, 1);
  }
  Result<DumpFile> open() const { return open_dump(File::from_bytes(bytes, "stream")); }
  std::vector<u8> bytes;
};

std::optional<u8> first_byte(const PageSource<PhysAddr>& source, u64 pa) {
  const auto slice = source.at(PhysAddr(pa));
  return slice ? std::optional(slice->data[0]) : std::nullopt;
}

constexpr u64 kGiB = u64{1} << 30;

TEST(MigrationStream, ALaterPageWins) {
  Stream s("pc-i440fx-7.2");
  s.blocks({{"pc.ram", 16 << 20}}).part();
  s.page("pc.ram", 0x1000, 'a')
      .page("pc.ram", 0x2000, 'b')
      .zero("pc.ram", 0x3000)
      .page("pc.ram", 0x4000, 'd')
      .part();
  s.page("pc.ram", 0x3000, 'c').zero("pc.ram", 0x2000).page("pc.ram", 0x1000, 'A').end();
  const auto dump = s.open();
  ASSERT_TRUE(dump) << text(dump.error());
  const auto& ram = *dump->physical;
  EXPECT_EQ(first_byte(ram, 0x1000), 'A');
  EXPECT_EQ(first_byte(ram, 0x2000), 0);
  EXPECT_EQ(first_byte(ram, 0x3000), 'c');
  EXPECT_EQ(first_byte(ram, 0x4000), 'd');
  EXPECT_EQ(first_byte(ram, 0x5000), std::nullopt);  // never sent: not a page of zeros
  EXPECT_EQ(ram.ranges().size(), 1u);
  EXPECT_EQ(ram.populated().size(), 2u);
  EXPECT_TRUE(ram.file_offset(PhysAddr(0x1010)));
  EXPECT_FALSE(ram.file_offset(PhysAddr(0x2000)));
}

TEST(MigrationStream, TheMachineSaysWhereTheHoleBelow4GiBBegins) {
  struct Case {
    const char* machine;
    u64 ram, low;
  };
  for (const Case& c :
       {Case{"pc-i440fx-7.2", 8 * kGiB, 3 * kGiB}, Case{"pc-q35-8.1+pve0", 8 * kGiB, 2 * kGiB},
        Case{"pc-q35-rhel9.2.0", 0xB0000000, 0x80000000}, Case{"pc-1.2", 8 * kGiB, 0xE0000000},
        Case{"pc-i440fx-7.2", 0xE0000000, 0xC0000000}, Case{"microvm", 0xD0000000, 0xC0000000}}) {
    SCOPED_TRACE(c.machine);
    Stream s(c.machine);
    s.blocks({{"pc.ram", c.ram}}).part();
    s.page("pc.ram", c.low - 0x1000, 'l').page("pc.ram", c.low, 'h').end();
    const auto dump = s.open();
    ASSERT_TRUE(dump) << text(dump.error());
    EXPECT_EQ(first_byte(*dump->physical, c.low - 0x1000), 'l');
    EXPECT_EQ(first_byte(*dump->physical, 4 * kGiB), 'h');
    EXPECT_EQ(first_byte(*dump->physical, c.low), std::nullopt);
    EXPECT_FALSE(dump->alternatives.empty());
  }
  Stream s("pc-i440fx-7.2");
  s.blocks({{"pc.ram", 3 * kGiB + kGiB / 4}}).part().page("pc.ram", 3 * kGiB, 'x').end();
  const auto dump = s.open();
  ASSERT_TRUE(dump);
  EXPECT_EQ(first_byte(*dump->physical, 3 * kGiB), 'x');
}

TEST(MigrationStream, NumaNodesAreOneLineOfRamAndDimmsFollowIt) {
  Stream s("pc-q35-7.2");
  s.blocks({{"/objects/ram-node1", 3 * kGiB},
            {"/objects/ram-node0", 3 * kGiB},
            {"vga.vram", 16 << 20},
            {"memdimm0", kGiB}})
      .part();
  s.page("/objects/ram-node0", 2 * kGiB, 'a').page("/objects/ram-node1", 0, 'b');
  s.page("/objects/ram-node1", 2 * kGiB, 'c').page("memdimm0", 0x5000, 'd').page("vga.vram", 0, 'v').end();
  const auto dump = s.open();
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_EQ(first_byte(*dump->physical, 4 * kGiB), 'a');
  EXPECT_EQ(first_byte(*dump->physical, 5 * kGiB), 'b');
  EXPECT_EQ(first_byte(*dump->physical, 7 * kGiB), 'c');
  EXPECT_EQ(first_byte(*dump->physical, 8 * kGiB + 0x5000), 'd');
  ASSERT_FALSE(dump->gaps.empty());
  EXPECT_EQ(dump->gaps[0].what, "hotplugged memory");
}

// -numa node,memdev=m0: any name, largest first in the stream.
TEST(MigrationStream, BackendsOfAnyNameAreRamInTheOrderOfTheirNumbers) {
  Stream s("pc-i440fx-7.2");
  s.blocks({{"m1", 12 << 20}, {"m0", 4 << 20}, {"vga.vram", 16 << 20}, {"other", 2 << 20}}).part();
  s.page("m0", 0x1000, 'a').page("m1", 0, 'b').end();
  const auto dump = s.open();
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_EQ(first_byte(*dump->physical, 0x1000), 'a');
  EXPECT_EQ(first_byte(*dump->physical, 4 << 20), 'b');
  EXPECT_TRUE(std::ranges::any_of(dump->gaps, [](const Gap& g) { return g.where == "other"; }));
  EXPECT_FALSE(std::ranges::any_of(dump->gaps, [](const Gap& g) { return g.where == "vga.vram"; }));
}

// postcopy-ram: blocks of huge pages tell their size, the others tell nothing.
TEST(MigrationStream, HugePagesTellTheirSizeWithPostcopy) {
  Stream s("pc-q35-9.0");
  s.be(((16 << 20) + 0x40000) | 4, 8);
  s.name("pc.ram").be(16 << 20, 8).be(2 << 20, 8).name("pc.bios").be(0x40000, 8);
  s.part().page("pc.ram", 0x1000, 'x').end();
  const auto dump = s.open();
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_EQ(first_byte(*dump->physical, 0x1000), 'x');
}

TEST(MigrationStream, BlockListsWithWhatCapabilitiesAddAreRead) {
  for (const int extra : {8, 16}) {
    Stream s("pc-q35-9.0");
    s.blocks({{"pc.ram", 16 << 20}, {"pc.bios", 0x40000}}, extra).part().page("pc.ram", 0x1000, 'x').end();
    const auto dump = s.open();
    ASSERT_TRUE(dump) << extra << text(dump.error());
    EXPECT_EQ(first_byte(*dump->physical, 0x1000), 'x');
  }
}

TEST(MigrationStream, MappedRamIsReadWhereItLies) {
  Stream s("pc-q35-9.0");
  constexpr u64 kPages = 1024, kAt = 1 << 20;
  s.be(kPages << kPageShift | 4, 8).name("pc.ram").be(kPages << kPageShift, 8);
  s.be(1, 4).be(kPageSize, 8).be(s.bytes.size() + 16, 8);  // version, page size, where the bitmap is
  const u64 bitmap = s.bytes.size() + 8;
  s.be(kAt, 8);
  EXPECT_EQ(bitmap, s.bytes.size());
  s.bytes.resize(kAt + (kPages << kPageShift));
  s.bytes[bitmap] = 0x24;  // pages 2 and 5
  s.bytes[kAt + 2 * kPageSize] = 'x';
  s.bytes[kAt + 5 * kPageSize] = 'y';
  s.bytes[kAt + 6 * kPageSize] = '?';  // not in the bitmap: zeros
  s.part().end();
  const auto dump = s.open();
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_EQ(first_byte(*dump->physical, 0x2000), 'x');
  EXPECT_EQ(first_byte(*dump->physical, 0x5000), 'y');
  EXPECT_EQ(first_byte(*dump->physical, 0x6000), 0);
  EXPECT_EQ(dump->physical->populated().size(), 2u);
  EXPECT_EQ(dump->physical->file_offset(PhysAddr(0x5000)), kAt + 5 * kPageSize);
}

TEST(MigrationStream, CompressedPagesAreRefusedByName) {
  for (const auto& [flag, word] :
       {std::pair<u64, const char*>{0x40, "XBZRLE"}, {0x100, "compress"}, {0x80, "RDMA"}}) {
    Stream s("pc-i440fx-7.2");
    s.blocks({{"pc.ram", 16 << 20}}).part().page("pc.ram", 0, 'x').be(0x1000 | flag, 8);
    const auto dump = s.open();
    ASSERT_FALSE(dump);
    EXPECT_EQ(dump.error().why, Why::unsupported);
    EXPECT_NE(text(dump.error()).find(word), std::string::npos) << text(dump.error());
  }
}

// A CPU with a subsection, and the JSON that describes them.
TEST(MigrationStream, CrashMsrsAndIrqlComeFromWhatTheStreamSaysOfItself) {
  Stream s("pc-q35-8.0");
  s.blocks({{"pc.ram", 16 << 20}}).part().page("pc.ram", 0, 'x').end();
  s.bytes.pop_back();  // the mark of the end of the sections comes behind the devices
  s.be(4, 1).be(3, 4).name("cpu").be(0, 4).be(12, 4);
  for (u64 i = 0; i < 16; i++) s.be(0x1000 + i, 8);
  s.be(0x1234, 8);
  s.be(5, 1).name("cpu/msr_hyperv_crash").be(1, 4);
  for (u64 i = 0; i < 5; i++) s.be(0x9f + i, 8);
  s.be(0x7e, 1)
      .be(3, 4)
      .be(4, 1)
      .be(4, 4)
      .name("apic")
      .be(7, 4)
      .be(3, 4)
      .be(0xfee00900, 4)
      .be(0x20, 1)
      .be(0x7e, 1)
      .be(4, 4)
      .be(0, 1);
  const std::string json =
      R"({"page_size":4096,"devices":[{"name":"cpu","instance_id":0,"version":12,"fields":[)"
      R"({"name":"env.regs","array_len":16,"type":"uint64","size":8},{"name":"env.eip","type":"uint64","size":8}],)"
      R"("subsections":[{"vmsd_name":"cpu/msr_hyperv_crash","version":1,"fields":[)"
      R"({"name":"env.msr_hv_crash_params","array_len":5,"type":"uint64","size":8}]}]},)"
      R"({"name":"apic","instance_id":7,"version":3,"fields":[{"name":"apicbase","type":"uint32","size":4},)"
      R"({"name":"tpr","type":"uint8","size":1}]}]})";
  s.be(6, 1).be(json.size(), 4).text(json);
  const auto dump = s.open();
  ASSERT_TRUE(dump) << text(dump.error());
  ASSERT_EQ(dump->cpus.size(), 1u);
  const CpuState& c = dump->cpus[0];
  EXPECT_EQ(c.gpr[r15], 0x100fu);
  EXPECT_EQ(c.rip, 0x1234u);
  ASSERT_TRUE(c.hyperv_crash);
  EXPECT_EQ((*c.hyperv_crash)[0], 0x9fu);
  EXPECT_EQ((*c.hyperv_crash)[4], 0xa3u);
  EXPECT_EQ(c.cr8, 2u);
  EXPECT_FALSE(c.xmm || c.efer || c.halted);  // what the stream has not is absent, not zero
}

TEST(MigrationStream, AnotherArchitectureIsRefusedByName) {
  Stream s("virt-8.0");
  s.blocks({{"mach-virt.ram", 16 << 20}}).part().page("mach-virt.ram", 0, 'x').end();
  const auto dump = s.open();
  ASSERT_FALSE(dump);
  EXPECT_NE(text(dump.error()).find("ARM64"), std::string::npos) << text(dump.error());
}

TEST(MigrationStream, LiesEndInOneSentenceOrAGap) {
  Stream good("pc-i440fx-7.2");
  good.blocks({{"pc.ram", 16 << 20}}).part().page("pc.ram", 0, 'x').page("pc.ram", 0x1000, 'y').end();
  // Every byte of the head, with values that make lengths and counts as wrong as can be.
  for (size_t at = 0; at < 120; at++)
    for (const u8 v : {u8{0}, u8{1}, u8{0x7f}, u8{0x80}, u8{0xff}}) {
      Stream s = good;
      s.bytes[at] = v;
      survives(File::from_bytes(s.bytes, "lie"), fmt::format("byte {} set to {}", at, v));
    }
  Stream huge("pc-i440fx-7.2");
  huge.be((u64{1} << 63) | 4, 8).name("pc.ram").be(u64{1} << 63, 8).part();
  EXPECT_FALSE(huge.open());
}

}  // namespace
}  // namespace unhang::dump
