// What users get for a bad file or a mistake: one sentence on standard error, exit status 2, nothing on
// standard output, and never a crash. Runs the program itself.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/xz.h"
#include "unit/dump/capture.h"

namespace unhang {
namespace {

constexpr std::string_view kKernelName = "ntkrnlmp.pdb";

struct Outcome {
  int status = -1;
  std::string out, err;
};

class BadInput : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "unhang-bad-" + std::to_string(getpid());
    std::filesystem::create_directories(directory_);
    setenv("XDG_CACHE_HOME", (directory_ + "/cache").c_str(), 1);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  std::string write(const std::string& name, const void* data, size_t size) const {
    std::ofstream(path(name), std::ios::binary)
        .write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
    return path(name);
  }
  std::string write(const std::string& name, const std::vector<u8>& bytes) const {
    return write(name, bytes.data(), bytes.size());
  }

  static std::string slurp(const std::string& path) {
    std::ifstream f(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
  }

  Outcome run(const std::string& arguments) const {
    const std::string command =
        fmt::format("'{}/unhang' {} > {} 2> {}", UNHANG_BINARY_DIR, arguments, path("out"), path("err"));
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(path("out")),
            slurp(path("err"))};
  }

  // One sentence that contains `words`, exit status 2.
  void refused(const std::string& arguments, const std::string& words) const {
    const Outcome o = run(arguments);
    EXPECT_EQ(o.status, 2) << arguments << "\n" << o.out.substr(0, 500) << o.err;
    EXPECT_EQ(o.out, "") << arguments;
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << o.err;
    EXPECT_TRUE(o.err.starts_with("unhang: ")) << o.err;
    EXPECT_NE(o.err.find(words), std::string::npos) << o.err;
  }

  static std::vector<u8> sample() {
    const auto packed = File::open(UNHANG_SOURCE_DIR "/samples/hang.elf.xz");
    EXPECT_TRUE(packed.has_value());
    return *unpack_xz((*packed)->bytes(), u64{1} << 30);
  }

  template <class T>
  static void put(std::vector<u8>& bytes, size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }

  // The header of a Windows crash dump, good as far as it goes.
  static std::vector<u8> crash_header(u32 type) {
    std::vector<u8> h(0x2000, 0);
    for (size_t i = 0; i < h.size(); i += 4) std::memcpy(h.data() + i, "PAGE", 4);
    std::memcpy(h.data(), "PAGEDU64", 8);
    put<u32>(h, 0xC, 19041);
    put<u64>(h, 0x10, 0x1ad000);
    put<u32>(h, 0x30, 0x8664);
    put<u32>(h, 0x34, 2);
    put<u32>(h, 0xF98, type);
    return h;
  }

  std::string directory_;
};

TEST_F(BadInput, Files) {
  refused(write("empty", "", 0), "empty");
  const std::string words(100000, 'x');
  refused(write("notes.txt", words.data(), words.size()), "not a memory dump");
  refused(path("missing.elf"), "No such file");
  refused(directory_, "directory");
  if (geteuid() != 0) {
    const std::string closed = write("closed", words.data(), words.size());
    chmod(closed.c_str(), 0);
    refused(closed, "ermission");
  }
}

TEST_F(BadInput, TruncatedElf) {
  const std::vector<u8> whole = sample();
  for (const size_t size : {size_t{5}, size_t{40}, size_t{63}, size_t{100}, size_t{200}, size_t{300}}) {
    const std::vector<u8> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    refused(write("header.elf", part), "truncated");
  }
  // Nothing of the kernel is left: a sentence. Half of it: what can be had, with its gaps.
  const std::vector<u8> notes(whole.begin(), whole.begin() + 8000);
  refused(write("notes.elf", notes), "truncated");
  const std::vector<u8> most(whole.begin(), whole.end() - (1 << 20));
  const Outcome partial = run(write("segment.elf", most));
  EXPECT_NE(partial.out.find("truncated: 1"), std::string::npos) << partial.out << partial.err;
  EXPECT_LE(partial.status, 1);
}

TEST_F(BadInput, OtherSystemsAndMachines) {
  std::vector<u8> arm = sample();
  put<u16>(arm, 18, 183);
  refused(write("arm64.elf", arm), "ARM64");
  std::vector<u8> elf32 = sample();
  elf32[4] = 1;
  refused(write("x86.elf", elf32), "32-bit");
  std::vector<u8> program = sample();
  put<u16>(program, 16, 2);
  refused(write("program", program), "not a core");
  std::vector<u8> user(0x2000, 0);
  std::memcpy(user.data(), "MDMP\x93\xa7", 6);
  refused(write("user.dmp", user), "user-mode minidump");
  std::vector<u8> x86(0x2000, 0);
  std::memcpy(x86.data(), "PAGEDUMP", 8);
  refused(write("x86.dmp", x86), "32-bit");
}

// A guest that says it is Linux, as its kernel's VMCOREINFO note does.
TEST_F(BadInput, LinuxGuest) {
  const std::string text = "OSRELEASE=6.1.0-18-amd64\nPAGESIZE=4096\n";
  std::vector<u8> elf(64 + 2 * 56, 0);
  std::memcpy(elf.data(),
              "\x7f"
              "ELF\x02\x01\x01",
              7);
  put<u16>(elf, 16, 4);
  put<u16>(elf, 18, 62);
  put<u64>(elf, 32, 64);
  put<u16>(elf, 54, 56);
  put<u16>(elf, 56, 2);
  const u64 notes = elf.size();
  std::vector<u8> note(12 + 12, 0);
  put<u32>(note, 0, 11);
  put<u32>(note, 4, static_cast<u32>(text.size()));
  std::memcpy(note.data() + 12, "VMCOREINFO", 10);
  note.insert(note.end(), text.begin(), text.end());
  note.resize((note.size() + 3) & ~size_t{3});
  elf.insert(elf.end(), note.begin(), note.end());
  put<u32>(elf, 64, 4);
  put<u64>(elf, 64 + 8, notes);
  put<u64>(elf, 64 + 32, note.size());
  const u64 memory = elf.size();
  elf.resize(elf.size() + (1 << 20), 0);
  put<u32>(elf, 120, 1);
  put<u64>(elf, 120 + 8, memory);
  put<u64>(elf, 120 + 32, 1 << 20);
  put<u64>(elf, 120 + 40, 1 << 20);
  refused(write("linux.elf", elf), "Linux");
}

TEST_F(BadInput, LyingCrashDumps) {
  std::vector<u8> runs = crash_header(1);
  put<u32>(runs, 0x88, 0xFFFFFFFF);
  refused(write("runs.dmp", runs), "run");
  runs = crash_header(1);
  put<u32>(runs, 0x88, 1);
  put<u64>(runs, 0x90, 1000);
  put<u64>(runs, 0x98, 0);
  put<u64>(runs, 0xA0, ~u64{0} / 2);
  const Outcome o = run(write("pages.dmp", runs));
  EXPECT_EQ(o.status, 2) << o.out << o.err;
  std::vector<u8> bitmap = crash_header(5);
  bitmap.resize(0x2038, 0);
  std::memcpy(bitmap.data() + 0x2000, "SDMPDUMP", 8);
  put<u64>(bitmap, 0x2020, 0x3000);
  put<u64>(bitmap, 0x2028, 1);
  put<u64>(bitmap, 0x2030, ~u64{0} - 7);
  refused(write("bitmap.dmp", bitmap), "bitmap");
  std::vector<u8> cut = crash_header(1);
  cut.resize(0x1000);
  refused(write("cut.dmp", cut), "truncated");
  std::vector<u8> machine = crash_header(1);
  put<u32>(machine, 0x30, 0xAA64);
  refused(write("arm64.dmp", machine), "ARM64");
}

TEST_F(BadInput, CommandsAndSymbols) {
  const std::string dump = write("hang.elf", sample());
  refused("run " + dump + " '!nonsense'", "!nonsense");
  refused("run " + dump + " '!thread zzz'", "zzz");
  refused("run " + dump + " '!irp 0'", "not present");
  refused("analyze " + dump + " --process nobody.exe", "no such process");
  refused("analyze " + dump + " --thread 0x1234", "no such thread");
  refused("analyze " + dump + " --symbols " + path("nowhere"), "no such symbol file");
  refused("analyze " + dump + " --nonsense", "--nonsense");
  // Symbols of another kernel are noticed by their GUID, and refused unless forced.
  const std::vector<u8> memory = sample();
  const auto rsds = std::search(memory.begin(), memory.end(), kKernelName.begin(), kKernelName.end());
  ASSERT_NE(rsds, memory.end());
  const std::vector<u8> guid(rsds - 20, rsds - 4);
  const auto good = File::open(UNHANG_SOURCE_DIR "/samples/ntkrnlmp.pdb");
  std::vector<u8> pdb((*good)->bytes().data(), (*good)->bytes().data() + (*good)->size());
  const auto at = std::search(pdb.begin(), pdb.end(), guid.begin(), guid.end());
  ASSERT_NE(at, pdb.end());
  *at ^= 1;
  const std::string other = write("other.pdb", pdb);
  refused("analyze " + dump + " --symbols " + other, "another kernel");
  EXPECT_EQ(run("analyze " + dump + " --force-symbols --symbols " + other).status, 1);
  const std::string broken = write("ntkrnlmp.pdb", std::vector<u8>(5000, 'x'));
  refused("analyze " + dump + " --symbols " + broken, "ntkrnlmp.pdb");
}

// The dump may be all that is left of the hang.
TEST_F(BadInput, ADumpIsNotConvertedOntoItself) {
  const std::vector<u8> bytes = sample();
  const std::string dump = write("hang.elf", bytes), other = path("other.elf"), soft = path("soft.elf");
  std::filesystem::create_hard_link(dump, other);
  std::filesystem::create_symlink(dump, soft);
  for (const std::string& out : {dump, other, soft})
    for (const char* form : {"dmp", "raw", "elf"})
      refused(fmt::format("convert {} --to {} -o {}", dump, form, out), "the dump itself");
  refused(fmt::format("convert - --to raw -o {} < {}", dump, dump), "name another");
  EXPECT_EQ(slurp(dump), std::string(bytes.begin(), bytes.end()));
}

// The wrong virtual machine, or one that had not started yet: what the file is can be said all the same.
TEST_F(BadInput, InfoOfADumpWithoutWindowsTellsItsProcessors) {
  NEED_CAPTURE("virsh-dump-plain.qevm");
  const std::string dump = dump::capture_path("virsh-dump-plain.qevm");
  const Outcome text = run("info " + dump), json = run("info --json - " + dump);
  for (const Outcome* o : {&text, &json}) {
    EXPECT_EQ(o->status, 2);
    EXPECT_NE(o->err.find("no Windows x64 kernel found"), std::string::npos) << o->err;
  }
  EXPECT_NE(text.out.find("machine pc-i440fx-7.2, 2 CPUs, 128 MiB"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("rip 00000000`00100268  rsp 00000000`00099000"), std::string::npos) << text.out;
  const auto cpus = nlohmann::json::parse(json.out).at("cpus");
  ASSERT_EQ(cpus.size(), 2u);
  const auto& registers = cpus[1].at("registers");
  EXPECT_EQ(registers.at("rbx"), "0x111223344550b0b");
  EXPECT_EQ(registers.at("kernel_gs_base"), "0x7ff600510000");
  EXPECT_EQ(registers.at("efer"), "0x500");
  EXPECT_EQ(registers.at("xmm").at(6), "0x00000000000000000111223344550b0b");
  EXPECT_EQ(registers.at("halted"), false);
}

TEST_F(BadInput, AReportThatAFullDiskCutIsAnError) {
  const std::string dump = write("hang.elf", sample());
  for (const char* how : {"analyze", "analyze --json -", "info", "run"}) {
    const Outcome o = run(fmt::format("{} {} {} > /dev/full 2> {} #", how, dump,
                                      how == std::string("run") ? "!locks" : "", path("why")));
    EXPECT_EQ(o.status, 3) << how;
    EXPECT_NE(slurp(path("why")).find("No space left on device"), std::string::npos)
        << how << slurp(path("why"));
  }
}

TEST_F(BadInput, OneWordMayHoldSeveralCommands) {
  const Outcome o = run("run " + write("hang.elf", sample()) + " '~0; ? 10 ;! \"a;b\"'");
  EXPECT_EQ(o.status, 2);
  EXPECT_NE(o.out.find("unhang> ~0\n"), std::string::npos) << o.out;
  EXPECT_NE(o.out.find("Evaluate expression: 16 = "), std::string::npos) << o.out;
  EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << o.err;
  EXPECT_NE(o.err.find("! \"a;b\": "), std::string::npos) << o.err;
}

TEST_F(BadInput, GoodInputStillWorks) {
  const Outcome o = run(write("hang.elf", sample()) + " --symbols " UNHANG_SOURCE_DIR "/samples");
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(o.err, "");
  EXPECT_NE(o.out.find("VERDICT busy-owner"), std::string::npos);
}

}  // namespace
}  // namespace unhang
