// ELF cores as the different QEMUs write them, made by hand: each variant that was seen or read of
// (FORMATS 1.2), and the real captures. Raw memory with a hole is here too: it is what a core without its
// header looks like.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "capture.h"
#include "dump/dump_file.h"

namespace unhang::dump {
namespace {

struct Load {
  u64 paddr = 0, size = 0;
  u8 fill = 0;
  u64 offset = ~u64{0};   // where its bytes lie; ~0: behind the others
  bool promised = false;  // p_filesz 0 and p_offset -1, as paging=on writes for what is not RAM
};

struct Variant {
  u64 phoff = 64;
  u16 ehsize = 64, machine = 62;
  u64 skew = 0;  // p_offset is this much beyond a page
  bool xnum = false;
  u64 qemu_note = 440;  // bytes of QEMUCPUState
};

class Core {
 public:
  Core(const Variant& v, const std::vector<Load>& loads) : bytes_(v.phoff + (loads.size() + 1) * 56) {
    std::memcpy(bytes_.data(),
                "\x7f"
                "ELF\2\1\1",
                7);
    const u64 headers = loads.size() + 1;
    put<u16>(16, 4);
    put<u16>(18, v.machine);
    put<u64>(32, v.phoff);
    put<u16>(52, v.ehsize);
    put<u16>(54, 56);
    put<u16>(56, v.xnum ? 0xFFFF : static_cast<u16>(headers));
    if (v.xnum) {
      put<u64>(40, 64);  // section 0 lies between the header and the program headers
      put<u32>(64 + 44, static_cast<u32>(headers));
    }
    const u64 note_at = bytes_.size();
    bytes_.resize(note_at + 12 + 8 + v.qemu_note);
    put<u32>(note_at, 5);
    put<u32>(note_at + 4, static_cast<u32>(v.qemu_note));
    std::memcpy(bytes_.data() + note_at + 12, "QEMU", 4);
    put<u32>(note_at + 20, 1);
    put<u32>(note_at + 24, static_cast<u32>(v.qemu_note));
    put<u64>(note_at + 20 + 8, 0x1122334455667788);    // rax
    put<u64>(note_at + 20 + 136, 0xfffff80012345678);  // rip
    program(v.phoff, 4, note_at, 0, bytes_.size() - note_at);
    for (size_t i = 0; i < loads.size(); i++) {
      const Load& l = loads[i];
      const u64 at = v.phoff + (i + 1) * 56;
      if (l.promised) {
        program(at, 1, ~u64{0}, l.paddr, 0);
        continue;
      }
      const u64 offset = l.offset != ~u64{0} ? l.offset : ((bytes_.size() + 4095) & ~u64{4095}) + v.skew;
      bytes_.resize(std::max<size_t>(bytes_.size(), offset + l.size));
      std::memset(bytes_.data() + offset, l.fill, l.size);
      program(at, 1, offset, l.paddr, l.size);
    }
  }

  template <class T>
  void put(size_t at, T value) {
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void cut(size_t bytes) { bytes_.resize(bytes_.size() - bytes); }
  Result<DumpFile> open() const { return open_dump(File::from_bytes(bytes_, "test.elf")); }

 private:
  void program(size_t at, u32 type, u64 offset, u64 paddr, u64 size) {
    put<u32>(at, type);
    put<u64>(at + 8, offset);
    put<u64>(at + 24, paddr);
    put<u64>(at + 32, size);
    put<u64>(at + 40, size);
  }
  std::vector<u8> bytes_;
};

int byte_at(const DumpFile& d, u64 pa) {
  const auto slice = d.physical->at(PhysAddr(pa));
  return slice ? slice->data[0] : -1;
}

const std::vector<Load> kTwo = {{.paddr = 0, .size = 0x3000, .fill = 0xAA},
                                {.paddr = 0x100000000, .size = 0x2000, .fill = 0xBB}};

void holds_two(const Result<DumpFile>& d) {
  ASSERT_TRUE(d.has_value()) << text(d.error());
  EXPECT_EQ(byte_at(*d, 0x2FFF), 0xAA);
  EXPECT_EQ(byte_at(*d, 0x3000), -1);
  EXPECT_EQ(byte_at(*d, 0x100001FFF), 0xBB);
  ASSERT_EQ(d->cpus.size(), 1u);
  EXPECT_EQ(d->cpus[0].rip, 0xfffff80012345678u);
  EXPECT_EQ(d->cpus[0].gpr[rax], 0x1122334455667788u);
}

TEST(ElfCore, OldLayout) {
  const auto d = Core({}, kTwo).open();
  holds_two(d);
  EXPECT_TRUE(d->gaps.empty());
}

// Since 7.2: program headers behind two section headers, and e_ehsize 8.
TEST(ElfCore, NewLayoutWithWrongHeaderSize) {
  holds_two(Core({.phoff = 192, .ehsize = 8}, kTwo).open());
}

TEST(ElfCore, OffsetsThatAreNotAligned) {
  holds_two(Core({.skew = 0x2A3}, kTwo).open());
}

TEST(ElfCore, SegmentCountInSectionZero) {
  holds_two(Core({.phoff = 128, .xnum = true}, kTwo).open());
  Core missing({.phoff = 128, .xnum = true}, kTwo);
  missing.put<u64>(40, 0);
  EXPECT_FALSE(missing.open().has_value());
  Core lying({.phoff = 128, .xnum = true}, kTwo);
  lying.put<u32>(64 + 44, 0xFFFFFFFF);
  EXPECT_FALSE(lying.open().has_value());
}

// Many more segments than 16 bits count.
TEST(ElfCore, SeventyThousandSegments) {
  std::vector<Load> loads;
  for (u64 i = 0; i < 70000; i++)
    loads.push_back(
        {.paddr = i * 0x4000, .size = 16, .fill = static_cast<u8>(i), .offset = 0x400000 + i * 16});
  const auto d = Core({.phoff = 128, .xnum = true}, loads).open();
  ASSERT_TRUE(d.has_value()) << text(d.error());
  EXPECT_EQ(d->physical->ranges().size(), 70000u);
  EXPECT_EQ(byte_at(*d, 69999 * 0x4000), static_cast<u8>(69999));
}

// paging=on: a page once for each mapping, and segments for what is not RAM.
TEST(ElfCore, PagingOn) {
  const auto d = Core({}, {{.paddr = 0x1000, .size = 0x2000, .fill = 1},
                           {.paddr = 0x2000, .size = 0x1000, .fill = 1},
                           {.paddr = 0xFEE00000, .promised = true},
                           {.paddr = 0x1000, .size = 0x1000, .fill = 1}})
                     .open();
  ASSERT_TRUE(d.has_value()) << text(d.error());
  ASSERT_EQ(d->physical->ranges().size(), 1u);
  EXPECT_EQ(d->physical->ranges()[0].size, 0x2000u);
  EXPECT_EQ(byte_at(*d, 0x2FFF), 1);
  EXPECT_EQ(byte_at(*d, 0xFEE00000), -1);
}

// begin/length: segments that begin and end inside of a page.
TEST(ElfCore, PartOfAPage) {
  const auto d = Core({}, {{.paddr = 0x1800, .size = 0x1000, .fill = 7}}).open();
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(byte_at(*d, 0x17FF), -1);
  EXPECT_EQ(byte_at(*d, 0x1800), 7);
  EXPECT_EQ(byte_at(*d, 0x27FF), 7);
  EXPECT_EQ(byte_at(*d, 0x2800), -1);
}

// CPU 0 in firmware: a 64-bit file for machine 386.
TEST(ElfCore, Machine386) {
  const auto d = Core({.machine = 3}, kTwo).open();
  holds_two(d);
  ASSERT_EQ(d->gaps.size(), 1u);
  EXPECT_NE(d->gaps[0].why.find("long mode"), std::string::npos);
}

// Before 2018 the note had no kernel_gs_base.
TEST(ElfCore, OldNote) {
  const auto old = Core({.qemu_note = 432}, kTwo).open(), now = Core({}, kTwo).open();
  holds_two(old);
  EXPECT_FALSE(old->cpus[0].kernel_gs_base.has_value());
  EXPECT_TRUE(now->cpus[0].kernel_gs_base.has_value());
}

TEST(ElfCore, LastSegmentCut) {
  Core core({}, kTwo);
  core.cut(0x1800);
  const auto d = core.open();
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(byte_at(*d, 0x1000007FF), 0xBB);
  EXPECT_EQ(byte_at(*d, 0x100000800), -1);
  ASSERT_EQ(d->gaps.size(), 1u);
  EXPECT_NE(d->gaps[0].why.find("6144 bytes"), std::string::npos) << d->gaps[0].why;
}

// Real ones: with paging and without, the same memory and registers.
TEST(ElfCore, CapturedWithPaging) {
  NEED_CAPTURE("qmp-elf.elf");
  NEED_CAPTURE("qmp-elf-paging-on.elf");
  const auto plain = open_dump(capture("qmp-elf.elf")), paging = open_dump(capture("qmp-elf-paging-on.elf"));
  ASSERT_TRUE(plain && paging);
  ASSERT_EQ(paging->cpus.size(), 2u);
  u64 compared = 0;
  for (const PhysRange& r : paging->physical->ranges())
    for (u64 at = 0; at + kPageSize <= r.size; at += kPageSize) {
      const auto a = plain->physical->at(r.start + at), b = paging->physical->at(r.start + at);
      ASSERT_TRUE(a && b) << (r.start + at).value();
      EXPECT_EQ(std::memcmp(a->data, b->data, std::min(a->size, b->size)), 0) << (r.start + at).value();
      compared++;
    }
  EXPECT_GT(compared, 1000u);
  for (size_t i = 0; i < 2; i++) EXPECT_EQ(plain->cpus[i].gpr, paging->cpus[i].gpr);
}

// A copy of a memory backend: what lies above the hole in the guest follows without one in the file.
TEST(RawMemory, HoleBelow4GiB) {
  const std::string path = testing::TempDir() + "unhang-raw-" + std::to_string(getpid());
  {
    std::ofstream out(path, std::ios::binary);
    out.seekp(0xC0000000);
    out.put('\x5A');
  }
  std::filesystem::resize_file(path, 0xC0000000 + (1 << 20));  // sparse
  const auto d = open_dump(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(d.has_value()) << text(d.error());
  EXPECT_EQ(byte_at(*d, 0xC0000000), 0x5A);
  ASSERT_EQ(d->alternatives.size(), 2u);
  const auto above = d->alternatives[0]->at(PhysAddr(u64{1} << 32));
  ASSERT_TRUE(above.has_value());
  EXPECT_EQ(above->data[0], 0x5A);
  EXPECT_FALSE(d->alternatives[0]->at(PhysAddr(0xC0000000)).has_value());
  EXPECT_TRUE(d->cpus.empty());
}

}  // namespace
}  // namespace unhang::dump
