// kdump-compressed files, flattened and assembled, of every codec: from QEMU, libvirt and makedumpfile.
#include <cstring>
#include <thread>

#include "base/format.h"
#include "capture.h"
#include "dump/logical_file.h"

namespace unhang::dump {
namespace {

// Why the first gap of a file is one; what else there is of it.
std::string first_gap(const std::shared_ptr<const File>& file) {
  const auto dump = open_dump(file);
  if (!dump) return "refused: " + text(dump.error());
  return dump->gaps.empty() ? "no gap" : dump->gaps.front().why;
}

bool has(const std::string& text, const char* words) {
  return text.find(words) != text.npos;
}

class Kdump : public testing::TestWithParam<const char*> {};

TEST_P(Kdump, HoldsTheSameMachineAsTheElfCore) {
  NEED_CAPTURE(GetParam());
  const auto dump = open_dump(capture(GetParam()));
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_EQ(dump->format, "kdump");
  EXPECT_TRUE(dump->gaps.empty());
  expect_registers(*dump, false);
  const Compared c = expect_same_memory(*dump);
  EXPECT_EQ(c.missing, 0u);
  EXPECT_EQ(c.extra, 0u);
  EXPECT_EQ(c.same, 32768u - 13);
  EXPECT_EQ(c.other_boot, 13u);
}

TEST_P(Kdump, PopulatedPagesAreFewAndHoldWhatIsNotZero) {
  NEED_CAPTURE(GetParam());
  const auto dump = open_dump(capture(GetParam()));
  ASSERT_TRUE(dump);
  u64 size = 0;
  bool numbered = false;
  for (const PhysRange& r : dump->physical->populated()) {
    size += r.size;
    numbered |= r.start <= PhysAddr(0x1010000) && PhysAddr(0x1010000) < r.end();
  }
  EXPECT_TRUE(numbered);
  EXPECT_LT(size, u64{16} << 20);
}

TEST_P(Kdump, SurvivesTruncationAnywhere) {
  NEED_CAPTURE(GetParam());
  const auto file = capture(GetParam());
  std::vector<u64> sizes{0,    1,    8,         12,         16,   31,   463,   464,
                         4095, 4096, 4096 + 16, 4096 + 103, 4200, 4201, 14048, 16384};
  for (u64 s = 17; s < file->size(); s += file->size() / 150) sizes.push_back(s);
  // Around each segment or block boundary of the first part.
  for (u64 s = 4096; s < 0x60000 && s < file->size(); s += 4096) sizes.insert(sizes.end(), {s - 1, s, s + 1});
  int opened = 0;
  for (const u64 s : sizes) opened += survives(cut(*file, s), fmt::format("{} cut at {}", GetParam(), s));
  EXPECT_GT(opened, 20);  // a part of the pages is better than nothing
}

TEST_P(Kdump, ATruncatedFileSaysSo) {
  NEED_CAPTURE(GetParam());
  const auto file = capture(GetParam());
  for (const u64 less : {1, 5000})
    EXPECT_PRED2(has, first_gap(cut(*file, file->size() - less)), "the file is truncated") << less;
}

INSTANTIATE_TEST_SUITE_P(Captures, Kdump,
                         testing::Values("virsh-memory-only.kdump-zlib.flat", "makedumpfile-R.kdump-zlib.raw",
                                         "synthetic.kdump-lzo.flat", "synthetic.kdump-lzo.raw",
                                         "synthetic.kdump-snappy.flat", "synthetic.kdump-snappy.raw",
                                         "synthetic.kdump-zstd.raw"));

constexpr const char* kRaw = "makedumpfile-R.kdump-zlib.raw";
constexpr u64 kBitmap = 4 * 4096, kHalf = 32 * 4096, kDescriptors = (4 + 64) * 4096;

TEST(KdumpFile, CarriesTheVmcoreinfoOfTheGuest) {
  NEED_CAPTURE(kRaw);
  const auto dump = open_dump(capture(kRaw));
  ASSERT_TRUE(dump && dump->header);
  EXPECT_EQ(dump->header->machine, 0x8664u);
  EXPECT_EQ(dump->header->directory_table_base, PhysAddr(0x200000));
}

// The upper pages of a guest are zeros, whose data come early: what lies before them is lost all the same.
TEST(KdumpFile, PagesOfZerosAtTheEndDoNotHideTruncation) {
  NEED_CAPTURE(kRaw);
  const auto file = capture(kRaw);
  const u64 count = 0x8000 - 0x100, zeros = file->bytes().at<u64>(kDescriptors);
  auto cut_file = cut(*file, file->size() - 200'000);
  for (u64 i = count - 500; i < count + 600; i++) {
    const u64 at = kDescriptors + i * 24;
    if (file->bytes().at<u64>(at) < zeros || file->bytes().at<u32>(at + 8) > kPageSize)
      break;  // the last one
    cut_file = patched(*cut_file, at, &zeros, 8);
  }
  EXPECT_PRED2(has, first_gap(cut_file), "the file is truncated");
}

TEST(KdumpFile, PagesThatTheHeaderDoesNotCountAreSaid) {
  NEED_CAPTURE(kRaw);
  const auto file = capture(kRaw);
  const u64 fewer = 0x7000;
  EXPECT_PRED2(has, first_gap(patched(*file, 4096 + 96, &fewer, 8)), "names pages behind them");
}

TEST(KdumpFile, OneOfASplitDumpSaysSo) {
  NEED_CAPTURE(kRaw);
  const auto file = capture(kRaw);
  const u32 split = 1;
  const u64 part[] = {0, 0x4000};
  EXPECT_PRED2(has, first_gap(patched(*patched(*file, 4096 + 12, &split, 4), 4096 + 80, part, 16)),
               "one of a dump that was split");
}

TEST(KdumpFile, AnExcludedPageIsNotInTheDumpAndNotZero) {
  NEED_CAPTURE(kRaw);
  const auto file = capture(kRaw);
  // The highest page of RAM: no other page's place depends on it. Cleared in the second bitmap only.
  u64 pfn = 0x8000 - 1;
  const u64 byte = kBitmap + kHalf + pfn / 8;
  const u8 value = static_cast<u8>(file->bytes().at<u8>(byte) & ~(1u << (pfn % 8)));
  const auto dump = open_dump(patched(*file, byte, &value, 1));
  ASSERT_TRUE(dump);
  const auto page = dump->physical->at(Pfn{pfn}.address());
  ASSERT_FALSE(page);
  EXPECT_EQ(page.error().why, Why::not_in_dump);
  EXPECT_NE(text(page.error()).find("left out"), std::string::npos);
  EXPECT_TRUE(dump->physical->at(Pfn{pfn - 1}.address()));
}

// The descriptor of page 0x1000 (its bitmap rank is known from the capture's own bitmap).
u64 descriptor_of(const File& file, u64 pfn) {
  u64 rank = 0;
  for (u64 i = 0; i < pfn; i++) rank += file.bytes().at<u8>(kBitmap + kHalf + i / 8) >> (i % 8) & 1;
  return kDescriptors + rank * 24;
}

TEST(KdumpFile, APageThatLiesAboutItselfIsAnErrorOfThatPageOnly) {
  NEED_CAPTURE(kRaw);
  const auto file = capture(kRaw);
  const u64 d = descriptor_of(*file, 0x1000);
  const u32 sizes[] = {0, 1, 80, 4097, 65536, 0xffffffff}, flags[] = {0, 2, 3, 4, 8, 0x20, 0xffffffff};
  const auto expect_bad = [](const std::shared_ptr<const File>& damaged, u64 value) {
    SCOPED_TRACE(hex(value));
    const auto dump = open_dump(damaged);
    ASSERT_TRUE(dump);
    const auto page = dump->physical->at(PhysAddr(0x1000000));
    ASSERT_FALSE(page);
    EXPECT_TRUE(page.error().why == Why::bad_file || page.error().why == Why::not_in_dump);
    EXPECT_TRUE(dump->physical->at(PhysAddr(0x1001000)));
  };
  for (const u32 size : sizes) expect_bad(patched(*file, d + 8, &size, 4), size);
  for (const u32 flag : flags) expect_bad(patched(*file, d + 12, &flag, 4), flag);
  const u64 offsets[] = {~u64{0}, ~u64{0} - 4096, file->size() - 1, u64{1} << 40};
  for (const u64 offset : offsets) expect_bad(patched(*file, d, &offset, 8), offset);
}

TEST(KdumpFile, LyingCountsAreRefusedInOneSentence) {
  NEED_CAPTURE(kRaw);
  const auto file = capture(kRaw);
  const u32 words[] = {0, 1, 0x7fffffff, 0xffffffff};
  for (const u64 at : {u64{424}, u64{428}, u64{432}, u64{436}, u64{8}})
    for (const u32 w : words) survives(patched(*file, at, &w, 4), fmt::format("u32 {:#x} at {}", w, at));
  const u64 longs[] = {0, 1, u64{1} << 33, u64{1} << 63, ~u64{0}};
  for (const u64 at : {u64{4096 + 48}, u64{4096 + 56}, u64{4096 + 96}})
    for (const u64 v : longs) survives(patched(*file, at, &v, 8), fmt::format("u64 {:#x} at {}", v, at));
  const u64 many = u64{1} << 33;
  const auto dump = open_dump(patched(*file, 4096 + 96, &many, 8));
  ASSERT_FALSE(dump);
  EXPECT_NE(text(dump.error()).find("bitmap"), std::string::npos) << text(dump.error());
  // Fewer than there are: what the count leaves out is not silently taken for holes.
  const u64 few = 1;
  const auto less = open_dump(patched(*file, 4096 + 96, &few, 8));
  ASSERT_TRUE(less);
  ASSERT_EQ(less->gaps.size(), 1u);
  EXPECT_NE(less->gaps[0].why.find("names pages behind them"), std::string::npos) << less->gaps[0].why;
}

TEST(KdumpFile, IndexingManySegmentsShowsProgressAndCanBeStopped) {
  std::vector<u8> bytes(4096);
  const auto put = [&](u64 value) {
    for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<u8>(value >> shift));
  };
  std::memcpy(bytes.data(), "makedumpfile", 12);
  bytes[23] = bytes[31] = 1;
  for (u64 i = 0; i < 200000; i++) {
    put(i);
    put(1);
    bytes.push_back(static_cast<u8>(i));
  }
  put(~u64{0});
  put(~u64{0});
  const auto file = File::from_bytes(std::move(bytes), "many");
  int calls = 0;
  u64 last = 0;
  const auto count = [&](const ProgressStep& step) {
    EXPECT_EQ(step.total, file->size());
    EXPECT_GT(step.done, last);
    last = step.done;
    return ++calls < 3;
  };
  const auto stopped = LogicalFile::flattened(file, count);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().why, Why::limit);
  EXPECT_EQ(calls, 3);
  const auto whole = LogicalFile::flattened(file);
  ASSERT_TRUE(whole);
  EXPECT_FALSE(whole->truncated());
  EXPECT_EQ(whole->size(), 200000u);
  std::array<u8, 300> room;
  const auto read = whole->read(1000, room);
  ASSERT_TRUE(read);
  for (u64 i = 0; i < room.size(); i++) EXPECT_EQ(read->at<u8>(i), static_cast<u8>(1000 + i));
}

TEST(KdumpFile, ACpuThatIsNotInLongModeIsAGap) {
  NEED_CAPTURE("nolongmode.kdump-zlib.flat");
  const auto dump = open_dump(capture("nolongmode.kdump-zlib.flat"));
  ASSERT_TRUE(dump) << text(dump.error());
  ASSERT_FALSE(dump->gaps.empty());
  EXPECT_EQ(dump->gaps.front().what, "CPU 0");
  const auto elf = open_dump(capture("nolongmode-em386.elf"));
  ASSERT_TRUE(elf);
  EXPECT_EQ(dump->cpus.size(), elf->cpus.size());
  EXPECT_EQ(dump->cpus[0].rip, elf->cpus[0].rip);
}

TEST(KdumpFile, ManyThreadsReadTheSameBytes) {
  NEED_CAPTURE("synthetic.kdump-lzo.flat");
  const auto dump = open_dump(capture("synthetic.kdump-lzo.flat"));
  ASSERT_TRUE(dump);
  std::vector<u64> sums(4);
  {
    std::vector<std::jthread> threads;
    for (u64& sum : sums)
      threads.emplace_back([&sum, &dump] {
        for (int round = 0; round < 3; round++)
          for (PhysAddr pa(0x1000000); pa < PhysAddr(0x1140000); pa += kPageSize) {
            const auto page = dump->physical->at(pa);
            if (page) sum += ByteView(page->data, page->size).at<u64>(0);
          }
      });
  }
  // 320 pages, each beginning with its own number, three times.
  EXPECT_EQ(sums[0], 3 * (u64{320} * 0x1000 + 319 * 320 / 2));
  for (const u64 sum : sums) EXPECT_EQ(sum, sums[0]);
}

}  // namespace
}  // namespace unhang::dump
