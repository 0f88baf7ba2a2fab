// The same world in every form: the sample written as crash dumps, ELF core and raw memory gives the same
// report, running threads' stacks included.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "app/session.h"
#include "app/views/view.h"
#include "base/format.h"
#include "base/xz.h"
#include "dump/migration_stream.h"
#include "memory/read.h"
#include "nt/crash_parts.h"
#include "other_forms.h"
#include "report/json.h"

namespace unhang {
namespace {

using Json = nlohmann::json;

class Convert : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "unhang-convert-" + std::to_string(getpid());
    std::filesystem::create_directories(directory_);
    const auto packed = File::open(UNHANG_SOURCE_DIR "/samples/hang.elf.xz");
    ASSERT_TRUE(packed.has_value());
    const auto bytes = unpack_xz((*packed)->bytes(), u64{1} << 30);
    ASSERT_TRUE(bytes.has_value());
    std::ofstream(path("hang.elf"), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes->data()), static_cast<std::streamsize>(bytes->size()));
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  static std::unique_ptr<app::Session> open(const std::string& file) {
    auto target =
        nt::Target::open(file, {.symbol_paths = {UNHANG_SOURCE_DIR "/samples"}, .cache = "", .dump = {}});
    EXPECT_TRUE(target.has_value()) << file << ": " << (target ? "" : text(target.error()));
    return target ? std::make_unique<app::Session>(std::move(*target)) : nullptr;
  }

  // The report without what is of the form: file, where registers come from, how things were found.
  static Json report(const std::string& file) {
    const auto session = open(file);
    if (!session) return {};
    const diagnose::Diagnosis d = diagnose::diagnose(session->world(), {});
    Json j = Json::parse(report::to_json(app::analysis_node(*session, d, {})));
    j.erase("dump");
    j["target"].erase("found_by");
    j["gaps"].clear();
    for (Json& cpu : j["cpus"]) cpu.erase("registers_from");
    for (Json& thread : j["threads"]) thread.erase("stack_from");
    return j;
  }

  dump::Written write(const std::string& name, dump::CrashType type) {
    const auto session = open(path("hang.elf"));
    const auto parts = nt::crash_parts(session->target(), std::nullopt);
    EXPECT_TRUE(parts.has_value());
    EXPECT_EQ(parts->contexts, 2u);
    const auto w = dump::write_crash_dump(path(name), *session->target().physical(), parts->ranges,
                                          parts->header, parts->patches, type, {});
    EXPECT_TRUE(w.has_value()) << (w ? "" : text(w.error()));
    EXPECT_EQ(w->copied.lost_patches, 0u);
    EXPECT_EQ(w->copied.unreadable_pages, 0u);
    return *w;
  }

  // write_raw's output beside what the source says, page by page.
  void copy_is_what_is_read(const dump::PageSource<PhysAddr>& source) {
    const auto ranges = dump::whole_pages(source.ranges());
    ASSERT_TRUE(dump::write_raw(path("copy.raw"), source, ranges, {}).has_value());
    const auto raw = File::open(path("copy.raw"));
    ASSERT_TRUE(raw.has_value());
    u64 wrong = 0;
    for (const dump::PhysRange& r : ranges)
      for (PhysAddr pa = r.start; pa < r.end(); pa = pa + kPageSize) {
        std::array<u8, kPageSize> page{};
        ASSERT_TRUE(memory::read_exact(source, pa, page));
        const auto copy = (*raw)->bytes().sub(pa.value(), kPageSize);
        ASSERT_TRUE(copy.has_value());
        wrong += !std::equal(page.begin(), page.end(), copy->data());
      }
    EXPECT_EQ(wrong, 0u);
  }

  std::string directory_;
};

TEST_F(Convert, CrashDumpsGiveTheSameReport) {
  const Json before = report(path("hang.elf"));
  ASSERT_EQ(before["verdict"]["class"], "busy-owner");
  write("complete.dmp", dump::CrashType::complete);
  write("bitmap.dmp", dump::CrashType::bitmap);
  for (const char* name : {"complete.dmp", "bitmap.dmp"}) {
    const Json after = report(path(name));
    EXPECT_EQ(before, after) << name << "\n" << Json::diff(before, after).dump(1).substr(0, 3000);
  }
}

// Forms that hosts write and unhang does not.
TEST_F(Convert, KdumpsAndAMigrationStreamGiveTheSameReport) {
  const Json before = report(path("hang.elf"));
  const auto dump = dump::open_dump(path("hang.elf"));
  ASSERT_TRUE(dump.has_value());
  const auto write_bytes = [&](const char* name, const std::vector<u8>& bytes) {
    std::ofstream(path(name), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  const std::vector<u8> kdump = dump::kdump_of(*dump->file, *dump);
  write_bytes("hang.kdump", kdump);
  write_bytes("hang.flat", dump::flattened_of(kdump));
  write_bytes("hang.qevm", dump::migration_of(*dump));
  for (const auto& [name, format] :
       {std::pair("hang.kdump", "kdump"), {"hang.flat", "kdump"}, {"hang.qevm", "qemu-migration"}}) {
    const auto other = dump::open_dump(path(name));
    ASSERT_TRUE(other.has_value()) << name << ": " << text(other.error());
    EXPECT_EQ(other->format, format);
    EXPECT_EQ(other->cpus.size(), dump->cpus.size()) << name;
    const Json after = report(path(name));
    EXPECT_EQ(before, after) << name << "\n" << Json::diff(before, after).dump(1).substr(0, 3000);
    copy_is_what_is_read(*other->physical);
  }
}

// The copy goes by the file's bytes where it can, everything else by pages.
TEST_F(Convert, PagesThatAStreamSendsAgain) {
  const auto dump = dump::open_dump(path("hang.elf"));
  ASSERT_TRUE(dump.has_value());
  const std::vector<u8> bytes = dump::migration_of(*dump);
  const auto file = File::from_bytes(bytes, "stream");
  auto stream = dump::read_migration(file, 0, {});
  ASSERT_TRUE(stream.has_value());
  // Every seventh page of what was sent becomes what lies ten thousand pages behind it: jumps in both
  // directions.
  std::vector<u8> again = bytes;
  const u64 pages = dump->physical->ranges().back().end().value() >> kPageShift;
  const std::string name = path("again.qevm");
  const auto put = [&](u64 at, u64 word) {
    for (int i = 0; i < 8; i++) again[at + i] = static_cast<u8>(word >> (56 - 8 * i));
  };
  for (const dump::PageRun& run : stream->runs)
    for (u64 i = 1; run.offset != 0 && i < run.size; i += 7) {
      const u64 at = run.offset + i * dump::PageRun::kStride - 8;
      put(at, ((run.start + i + 10'000) % pages) << kPageShift | 0x28);
    }
  std::ofstream(name, std::ios::binary)
      .write(reinterpret_cast<const char*>(again.data()), static_cast<std::streamsize>(again.size()));
  const auto moved = dump::open_dump(name);
  ASSERT_TRUE(moved.has_value()) << text(moved.error());
  copy_is_what_is_read(*moved->physical);
}

TEST_F(Convert, PlainFormsGiveTheSameReport) {
  const Json before = report(path("hang.elf"));
  const auto dump = dump::open_dump(path("hang.elf"));
  ASSERT_TRUE(dump.has_value());
  const auto ranges = dump::whole_pages(dump->physical->ranges());
  ASSERT_TRUE(dump::write_elf_core(path("again.elf"), *dump->physical, ranges, dump->cpus, {}).has_value());
  EXPECT_EQ(before, report(path("again.elf")));
  ASSERT_TRUE(dump::write_raw(path("memory.raw"), *dump->physical, ranges, {}).has_value());
  // Raw memory has no registers: the verdict stands on the lock's owner, who runs.
  const Json raw = report(path("memory.raw"));
  EXPECT_EQ(raw["verdict"]["class"], "busy-owner");
  EXPECT_EQ(raw["threads"].size(), before["threads"].size());
  EXPECT_EQ(raw["locks"], before["locks"]);
}

TEST_F(Convert, HeaderFields) {
  const dump::Written w = write("complete.dmp", dump::CrashType::complete);
  EXPECT_EQ(std::filesystem::file_size(path("complete.dmp")), w.file_size);
  EXPECT_EQ(w.file_size, 0x2000 + w.pages * kPageSize);
  const auto file = File::open(path("complete.dmp"));
  const ByteView b = (*file)->bytes();
  const auto session = open(path("hang.elf"));
  const nt::Target& t = session->target();
  EXPECT_TRUE(b.starts_with("PAGEDU64"));
  EXPECT_EQ(b.at<u32>(0x0C), 19041u);
  EXPECT_EQ(b.at<u64>(0x10), t.place().dtb.value());
  EXPECT_EQ(b.at<u64>(0x20), t.symbol("PsLoadedModuleList")->value());
  EXPECT_EQ(b.at<u64>(0x28), t.symbol("PsActiveProcessHead")->value());
  EXPECT_EQ(b.at<u32>(0x30), 0x8664u);
  EXPECT_EQ(b.at<u32>(0x34), 2u);
  EXPECT_EQ(b.at<u64>(0x80), t.kdbg()->va().value());
  u64 pages = 0;
  for (u32 i = 0; i < b.at<u32>(0x88); i++) pages += b.at<u64>(0xA0 + i * 16);
  EXPECT_EQ(pages, w.pages);
  EXPECT_EQ(b.at<u64>(0x90), w.pages);
  EXPECT_EQ(b.at<u32>(0xF98), 1u);
  EXPECT_EQ(b.at<u64>(0xFA0), w.file_size);
  EXPECT_EQ(b.at<u8>(0x104D), 2u);
  // The chosen processor is the one that runs php-cgi.exe: CONTEXT.Rip and the exception's address.
  const dump::CpuState& cpu = *t.cpus()[1].state;
  EXPECT_EQ(b.at<u32>(0x348 + 0x30) & 0x100007u, 0x100007u);
  EXPECT_EQ(b.at<u64>(0x348 + 0xF8), cpu.rip);
  EXPECT_EQ(b.at<u64>(0x348 + 0x98), cpu.gpr[dump::rsp]);
  EXPECT_EQ(b.at<u64>(0xF10), cpu.rip);
  EXPECT_EQ(b.at<u32>(0x1054 + 4), 0x45474150u);  // "PAGE"
}

TEST_F(Convert, OnlyThePatchedPlacesDiffer) {
  write("complete.dmp", dump::CrashType::complete);
  const auto before = dump::open_dump(path("hang.elf")), after = dump::open_dump(path("complete.dmp"));
  const auto session = open(path("hang.elf"));
  const auto parts = nt::crash_parts(session->target(), std::nullopt);
  std::set<u64> patched;
  for (const dump::Patch& p : parts->patches)
    for (u64 i = 0; i < p.bytes.size(); i++) patched.insert((p.at + i).value());
  u64 changed = 0;
  for (const dump::PhysRange& r : after->physical->ranges())
    for (u64 at = 0; at < r.size; at += kPageSize) {
      const auto a = before->physical->at(r.start + at), b = after->physical->at(r.start + at);
      ASSERT_TRUE(a && b && a->size == kPageSize && b->size == kPageSize);
      if (std::memcmp(a->data, b->data, kPageSize) == 0) continue;
      for (u64 i = 0; i < kPageSize; i++)
        if (a->data[i] != b->data[i]) {
          changed++;
          EXPECT_TRUE(patched.contains((r.start + at + i).value())) << hex(r.start + at + i);
        }
    }
  EXPECT_GT(changed, 100u);
}

TEST_F(Convert, ManyRunsNeedABitmap) {
  const auto session = open(path("hang.elf"));
  auto parts = nt::crash_parts(session->target(), std::nullopt);
  const dump::PhysRange whole = parts->ranges.front();
  parts->ranges.clear();
  for (u64 i = 0; i < 60; i++) parts->ranges.push_back({whole.start + i * 2 * kPageSize, kPageSize});
  const auto refused = dump::write_crash_dump(path("no.dmp"), *session->target().physical(), parts->ranges,
                                              parts->header, {}, dump::CrashType::complete, {});
  EXPECT_FALSE(refused.has_value());
  EXPECT_FALSE(std::filesystem::exists(path("no.dmp")));
  const auto w = dump::write_crash_dump(path("yes.dmp"), *session->target().physical(), parts->ranges,
                                        parts->header, {}, dump::CrashType::automatic, {});
  ASSERT_TRUE(w.has_value());
  const auto again = dump::open_dump(path("yes.dmp"));
  ASSERT_TRUE(again.has_value()) << text(again.error());
  EXPECT_EQ(again->physical->ranges().size(), 60u);
  EXPECT_NE(w->what.find("type 5"), std::string::npos);
}

// Progress that says stop: nothing is left behind.
// What a crash dump has of its processors is more than what is read of it: it stays as it is.
TEST_F(Convert, ACrashDumpOfACrashDumpIsTheSame) {
  write("complete.dmp", dump::CrashType::complete);
  const auto session = open(path("complete.dmp"));
  const auto parts = nt::crash_parts(session->target(), std::nullopt);
  ASSERT_TRUE(parts.has_value()) << text(parts.error());
  EXPECT_EQ(parts->contexts, 2u);
  ASSERT_TRUE(dump::write_crash_dump(path("again.dmp"), *session->target().physical(), parts->ranges,
                                     parts->header, parts->patches, dump::CrashType::complete, {})
                  .has_value());
  const auto a = File::open(path("complete.dmp")), b = File::open(path("again.dmp"));
  ASSERT_TRUE(a.has_value() && b.has_value());
  ASSERT_EQ((*a)->size(), (*b)->size());
  size_t different = 0;
  for (u64 at = 0; at < (*a)->size(); at++) different += (*a)->bytes().at<u8>(at) != (*b)->bytes().at<u8>(at);
  EXPECT_EQ(different, 0u);
}

// The registers of a crash dump are in Windows' memory; an ELF core gets them as notes.
TEST_F(Convert, AnElfCoreOfACrashDumpHasItsRegisters) {
  write("complete.dmp", dump::CrashType::complete);
  const std::string command =
      fmt::format("'{}/unhang' convert {} -o {} --to elf --symbols {}/samples >/dev/null", UNHANG_BINARY_DIR,
                  path("complete.dmp"), path("of.elf"), UNHANG_SOURCE_DIR);
  ASSERT_EQ(std::system(command.c_str()), 0);
  const Json from = report(path("complete.dmp")), to = report(path("of.elf"));
  ASSERT_EQ(to["cpus"].size(), 2u);
  for (size_t i = 0; i < 2; i++) {
    EXPECT_EQ(from["cpus"][i]["rip"], to["cpus"][i]["rip"]);
    EXPECT_EQ(from["cpus"][i]["stack"], to["cpus"][i]["stack"]);
  }
}

// A damaged list of ranges must not make files of petabytes.
TEST_F(Convert, MemoryWhereNoMachineHasAny) {
  const auto session = open(path("hang.elf"));
  const auto parts = nt::crash_parts(session->target(), std::nullopt);
  const std::vector<dump::PhysRange> far{{PhysAddr(1 << 20), kPageSize}, {PhysAddr(u64{1} << 48), kPageSize}};
  for (const auto type : {dump::CrashType::complete, dump::CrashType::bitmap}) {
    const auto w = dump::write_crash_dump(path("far.dmp"), *session->target().physical(), far, parts->header,
                                          {}, type, {});
    ASSERT_FALSE(w.has_value());
    EXPECT_NE(text(w.error()).find("64 TiB"), std::string::npos);
  }
  const auto w = dump::write_raw(path("far.raw"), *session->target().physical(), far, {});
  EXPECT_FALSE(w.has_value());
  EXPECT_FALSE(std::filesystem::exists(path("far.dmp")) || std::filesystem::exists(path("far.raw")));
}

TEST_F(Convert, InterruptedLeavesNothing) {
  const auto session = open(path("hang.elf"));
  const auto parts = nt::crash_parts(session->target(), std::nullopt);
  const auto stopped = dump::write_crash_dump(
      path("stopped.dmp"), *session->target().physical(), parts->ranges, parts->header, parts->patches,
      dump::CrashType::automatic, [](const ProgressStep&) { return false; });
  EXPECT_FALSE(stopped.has_value());
  size_t files = 0;
  for ([[maybe_unused]] const auto& f : std::filesystem::directory_iterator(directory_)) files++;
  EXPECT_EQ(files, 1u);
}

}  // namespace
}  // namespace unhang
