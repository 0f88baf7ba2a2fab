// User parts of stacks: 32-bit code in a 64-bit Windows, code that was made at run time, and pages of images
// that are not in the dump.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/format.h"
#include "memory/read.h"
#include "stack/thread_stack.h"
#include "synth/session.h"
#include "synth/user_side.h"

namespace unhang {
namespace {

using stack::StackEnd;
using stack::ThreadStack;
using synth::kCallSite;
using synth::UserSide;

constexpr u8 kUserRequest = 6;
constexpr VirtAddr kCpuBase(0x77800000), kNtdllBase(0x7ffe'00000000);
constexpr u32 kExe = 0x400000, kNtdll32 = 0x77a60000, kBaseDll = 0x76000000;

// A thread that waits in a system call, in a process whose user side the test makes.
class UserStackTest : public testing::TestWithParam<const char*> {
 protected:
  explicit UserStackTest(bool wow64 = true)
      : machine_({.build = GetParam()}),
        process_(machine_.add_process("app.exe", 1000)),
        thread_(machine_.add_thread(process_, 1004)),
        user_(machine_, process_, wow64) {
    machine_.block(thread_, kUserRequest, {machine_.add_event()}, 100,
                   {"nt!KeWaitForSingleObject", "nt!NtWaitForSingleObject", "nt!KiSystemServiceCopyEnd"});
    user_.give_stacks(thread_);
  }

  ThreadStack make() {
    session_ = synth::open_session(machine_.dump());
    if (!session_) return {};
    const auto t = nt::read_thread(session_->target(), thread_);
    EXPECT_TRUE(t.has_value());
    return session_->stacks().make(*t);
  }
  // The user part, one line a frame: "symbol trust".
  static std::string user_part(const ThreadStack& s) {
    std::string out;
    for (size_t i = 0; i < s.frames.size(); i++)
      if (!is_kernel(s.frames[i].ip)) out += fmt::format("{} {}\n", s.symbols[i], name(s.frames[i].trust));
    return out;
  }

  synth::Machine machine_;
  VirtAddr process_, thread_;
  UserSide user_;
  std::unique_ptr<app::Session> session_;
};

std::string build_name(const testing::TestParamInfo<const char*>& i) {
  std::string s = i.param;
  std::replace(s.begin(), s.end(), '.', '_');
  return s;
}

// ---- 32-bit code ----

class Wow64Test : public UserStackTest {
 protected:
  Wow64Test() {
    synth::ImageBuilder cpu("wow64cpu.dll", {}), ntdll("ntdll.dll", {});
    in_stub_ = cpu.add_function("CpupSyscallStub").begin + 0x10;
    const synth::Function simulate = cpu.add_function("CpuSimulate");
    const synth::Function initialize = ntdll.add_function("LdrInitializeThunk");
    user_.add_module("app.exe", VirtAddr(kExe), app());
    user_.add_module("ntdll.dll", kNtdllBase, ntdll.build());
    user_.add_module("wow64cpu.dll", kCpuBase, cpu.build());
    user_.add_module32("app.exe", kExe, app());
    user_.add_module32(
        "ntdll.dll", kNtdll32,
        synth::image_x86("ntdll.dll", {{"NtWaitForSingleObject", 0x1100}, {"RtlUserThreadStart", 0x1200}}));
    user_.add_module32("kernelbase.dll", kBaseDll,
                       synth::image_x86("kernelbase.dll", {{"WaitForSingleObjectEx", 0x1400}}));
    // 64-bit frames: two functions of 0x28 bytes each, then the end.
    const u64 sp = UserSide::kStackBase - 0x200;
    user_.put(sp + 0x28, (kCpuBase + simulate.call_site).value());
    user_.put(sp + 0x30 + 0x28, (kNtdllBase + initialize.call_site).value());
    user_.put<u64>(sp + 0x60 + 0x28, 0);
    user_.enter_from(thread_, (kCpuBase + in_stub_).value(), sp, 0);
    // 32-bit frames: the stub's return address, then a chain of EBPs.
    user_.put<u32>(kTop, kBaseDll + 0x1400 + kCallSite);
    chain(kTop + 0x40, kTop + 0x80, kExe + 0x2000 + kCallSite);
    chain(kTop + 0x80, kTop + 0xc0, kNtdll32 + 0x1200 + kCallSite);
    chain(kTop + 0xc0, 0, 0);
    user_.save_context32(kNtdll32 + 0x1100 + 0xc, kTop, kTop + 0x40);
  }
  static std::vector<u8> app() { return synth::image_x86("app.exe", {{"main", 0x2000}}); }
  void chain(u32 at, u32 next, u32 back) {
    user_.put(at, next);
    user_.put(at + 4, back);
  }

  static constexpr u32 kTop = UserSide::kStackBase32 - 0x800;
  static constexpr const char* kChain =
      "kernelbase!WaitForSingleObjectEx+0x20 heuristic\n"
      "app!main+0x20 heuristic\n"
      "ntdll_77a60000!RtlUserThreadStart+0x20 heuristic\n";
  static constexpr const char* k64 =
      "wow64cpu!CpupSyscallStub+0x10 exact\n"
      "wow64cpu!CpuSimulate+0x40 exact\n"
      "ntdll!LdrInitializeThunk+0x40 exact\n";
  u64 in_stub_ = 0;
};

TEST_P(Wow64Test, WaitsInASystemCall) {
  const ThreadStack s = make();
  EXPECT_EQ(user_part(s), std::string(k64) + "ntdll_77a60000!NtWaitForSingleObject+0xc derived\n" + kChain);
  EXPECT_EQ(s.user_end, "complete; 32-bit part: complete");
  EXPECT_EQ(s.end, StackEnd::complete);
  EXPECT_TRUE(s.heuristic);
}

TEST_P(Wow64Test, InterruptedIn32BitCode) {
  user_.enter_from(thread_, kNtdll32 + 0x1100 + 0xc, kTop, kTop + 0x40, 0x23);
  // What it saved when it was in a system call last is not where it is now.
  user_.save_context32(kExe + 0x3000, kTop + 0x400, 0);
  const ThreadStack s = make();
  EXPECT_EQ(user_part(s), std::string("ntdll_77a60000!NtWaitForSingleObject+0xc exact\n") + kChain);
  EXPECT_EQ(s.user_end, "32-bit part: complete");
}

TEST_P(Wow64Test, HostileChains) {
  const struct {
    u32 next, back;
    const char* end;
  } kCases[] = {
      {kTop + 0x80, kExe + 0x2000 + kCallSite, "did not move up"},  // to itself
      {kTop + 0x10, kExe + 0x2000 + kCallSite, "did not move up"},  // downwards
      {0x12345678, kExe + 0x2000 + kCallSite, "did not move up"},   // out of the stack
      {kTop + 0xc1, kExe + 0x2000 + kCallSite, "did not move up"},
      {UserSide::kStackBase32 - 4, kExe + 0x2000 + kCallSite, "did not move up"},
      {kTop + 0xc0, kExe + 0x2000, "no return address"},  // not behind a call
      {kTop + 0xc0, kExe + 0x5000, "no return address"},  // not code
      {kTop + 0xc0, 0x66660005, "complete"},              // code that is not there: a guess
  };
  for (const auto& c : kCases) {
    chain(kTop + 0x80, c.next, c.back);
    const ThreadStack s = make();
    EXPECT_NE(s.user_end.find(c.end), std::string::npos) << s.user_end;
    EXPECT_LE(s.frames.size(), 20u);
    EXPECT_TRUE(user_part(s).starts_with(k64));
  }
  // The chain goes over an unreadable page.
  chain(kTop + 0x80, UserSide::kStack32 + 0x8100, kExe + 0x2000 + kCallSite);
  user_.save_context32(kNtdll32 + 0x1100 + 0xc, UserSide::kStack32 + 0x100, UserSide::kStack32 + 0x8100);
  machine_.memory().set_pte(VirtAddr(UserSide::kStack32 + 0x8000), 0, user_.tables());
  const ThreadStack s = make();
  EXPECT_NE(s.user_end.find("cannot be read"), std::string::npos) << s.user_end;
}

TEST_P(Wow64Test, RegistersThatCannotBe) {
  user_.save_context32(kNtdll32 + 0x1100, 0x1000, 0);
  EXPECT_NE(make().user_end.find("not of this thread's 32-bit stack"), std::string::npos);
  user_.put<u32>(UserSide::kTeb + 0x2018, 0);
  user_.put<u64>(UserSide::kTeb, 0);
  const ThreadStack s = make();
  EXPECT_NE(s.user_end.find("_TEB32"), std::string::npos) << s.user_end;
  EXPECT_EQ(user_part(s), k64) << "the 64-bit part stays";
}

// The list of 32-bit modules goes round: what it has is used, and the walk ends.
TEST_P(Wow64Test, LoopingModuleList) {
  const VirtAddr first(machine_.memory().get<u32>(VirtAddr(0x10100 + 0xc), user_.tables()));
  user_.put<u32>(first.value(), static_cast<u32>(first.value()));
  EXPECT_FALSE(make().frames.empty());
}

INSTANTIATE_TEST_SUITE_P(Builds, Wow64Test, testing::Values("6.1.7601.24540", "10.0.19041.804"), build_name);

// ---- code made at run time ----

class DynamicCodeTest : public UserStackTest {
 protected:
  DynamicCodeTest() : UserStackTest(false) {
    synth::ImageBuilder ntdll("ntdll.dll", {}), clr("clr.dll", {});
    const synth::Function wait = ntdll.add_function("NtWaitForSingleObject");
    start_ = (kNtdllBase + wait.begin + 0x10).value();
    back_ = clr.add_function("CallDescrWorkerInternal").call_site;
    user_.add_module("ntdll.dll", kNtdllBase, ntdll.build());
    clr_ = clr.build();
    user_.map(VirtAddr(kJit), kPageSize);
    user_.put<u8>(kJit + 0x100 - 5, 0xe8);
    user_.put<u8>(kJit + 0x200 - 5, 0xe8);
    // ntdll's frame, a JIT frame that keeps RBP, another one that does not, the runtime.
    const u64 sp = UserSide::kStackBase - 0x400;
    user_.put(sp + 0x28, kJit + 0x100);
    user_.put(sp + 0x50, kClr + back_ - 1);  // junk: no return address
    user_.put(sp + 0x80, u64{0});
    user_.put(sp + 0x88, kJit + 0x200);
    user_.put(sp + 0xc0, kClr + back_);
    user_.enter_from(thread_, start_, sp, sp + 0x80);
  }
  static constexpr u64 kJit = 0x3330000, kClr = 0x7ffd'00000000;
  u64 start_ = 0, back_ = 0;
  std::vector<u8> clr_;
};

TEST_P(DynamicCodeTest, IsCalledSoAndPassed) {
  user_.add_module("clr.dll", VirtAddr(kClr), clr_);
  const ThreadStack s = make();
  const std::string part = user_part(s);
  EXPECT_TRUE(
      part.starts_with("ntdll!NtWaitForSingleObject+0x10 exact\n"
                       "0x3330100 [JIT/dynamic code] exact\n"
                       "0x3330200 [JIT/dynamic code] heuristic\n"
                       "clr!CallDescrWorkerInternal+0x40 heuristic\n"))
      << part << s.user_end;
}

// Without a runtime nobody knows what that memory is.
TEST_P(DynamicCodeTest, WithoutARuntimeItIsAnAddress) {
  user_.add_module("other.dll", VirtAddr(kClr), clr_);
  EXPECT_EQ(user_part(make()).find("JIT"), std::string::npos);
}

TEST_P(DynamicCodeTest, DataIsNoCode) {
  user_.add_module("clr.dll", VirtAddr(kClr), clr_);
  auto& m = machine_.memory();
  m.set_pte(VirtAddr(kJit), m.pte(VirtAddr(kJit), user_.tables()) | u64{1} << 63, user_.tables());
  EXPECT_EQ(user_part(make()).find("JIT"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Builds, DynamicCodeTest, testing::Values("10.0.19041.804"), build_name);

// ---- image files that stand in for missing pages ----

class ImageFileTest : public testing::Test {
 protected:
  ImageFileTest() {
    folder_ = std::filesystem::path(testing::TempDir()) / ("unhang-images-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    base_ = machine_.add_module("filter.sys", {"FilterCreate"});
    thread_ = machine_.add_thread(machine_.system_process(), 100);
    machine_.block(thread_, 0, {machine_.add_event()}, 100,
                   {"nt!KeWaitForSingleObject", "filter!FilterCreate", "nt!NtCreateFile"});
    // The image as it lies on disk: sections where they are in memory.
    const auto session = synth::open_session(machine_.dump());
    const auto read = memory::read_sparse(session->target().kernel(), base_, kSize);
    EXPECT_TRUE(read.holes.empty());
    bytes_ = read.bytes;
    for (u64 at = 0x188; at < 0x188 + 4 * 40; at += 40)
      std::memcpy(bytes_.data() + at + 20, bytes_.data() + at + 12, 4);
  }
  ~ImageFileTest() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::vector<u8>& bytes) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void page_out(u32 rva) { missing_.push_back(base_ + rva); }
  dump::DumpFile dump() {
    dump::DumpFile d = machine_.dump();
    for (const VirtAddr va : missing_)
      static_cast<synth::Pages&>(*d.physical)
          .remove(Pfn{(machine_.memory().pte(va) & 0xf'ffff'ffff'f000) >> 12});
    return d;
  }

  // "symbol trust" of the frame of the driver and of its caller.
  std::string frames() {
    auto target = nt::Target::open(dump(), {.image_paths = {folder_.string()}});
    EXPECT_TRUE(target.has_value());
    app::Session session(std::move(*target));
    const auto t = nt::read_thread(session.target(), thread_);
    const ThreadStack s = session.stacks().make(*t);
    std::string out;
    for (size_t i = 3; i < s.frames.size(); i++)
      out += fmt::format("{} {}\n", s.symbols[i], name(s.frames[i].trust));
    gaps_.clear();
    for (const Gap& g : session.target().gaps())
      if (g.what == "image file") gaps_ += g.where + ": " + g.why + "\n";
    return out;
  }

  static constexpr u64 kSize = 0x53000;
  static constexpr u32 kPdata = 0x31000;
  static constexpr const char* kWhole = "filter!FilterCreate+0x40 exact\nnt!NtCreateFile+0x40 exact\n";
  synth::Machine machine_;
  VirtAddr base_, thread_;
  std::filesystem::path folder_;
  std::vector<u8> bytes_;
  std::string gaps_;
  std::vector<VirtAddr> missing_;
};

TEST_F(ImageFileTest, UnwindDataFromDisk) {
  EXPECT_EQ(frames(), kWhole);
  page_out(kPdata);
  const std::string without = frames();
  EXPECT_NE(without, kWhole) << "the page that is missing matters";
  write("Filter.SYS", bytes_);
  EXPECT_EQ(frames(), "filter!FilterCreate+0x40 exact\nnt!NtCreateFile+0x40 derived\n")
      << "a module without a GUID: name, time stamp and size agree";
  EXPECT_EQ(gaps_, "");
}

TEST_F(ImageFileTest, FormOfASymbolServer) {
  page_out(kPdata);
  write(fmt::format("filter.sys/{:08X}{:x}/filter.sys", 0x5f3759df, kSize), bytes_);
  EXPECT_NE(frames().find("nt!NtCreateFile+0x40 derived"), std::string::npos);
}

TEST_F(ImageFileTest, AnotherBuildIsRefusedAndSaid) {
  page_out(kPdata);
  const std::string without = frames();
  std::vector<u8> other = bytes_;
  other[0x88] ^= 1;
  write("filter.sys", other);
  EXPECT_EQ(frames(), without);
  EXPECT_NE(gaps_.find("time stamp"), std::string::npos) << gaps_;
  other = bytes_;
  other[0x98 + 57] ^= 0x10;
  write("filter.sys", other);
  EXPECT_EQ(frames(), without);
  EXPECT_NE(gaps_.find("its size"), std::string::npos) << gaps_;
  write("filter.sys", {'M', 'Z', 1, 2, 3});
  EXPECT_EQ(frames(), without);
  EXPECT_NE(gaps_.find("no PE header"), std::string::npos) << gaps_;
}

// Pages that are written to are not what the file has.
TEST_F(ImageFileTest, WritableSectionsStayUnread) {
  constexpr u32 kData = 0x33000;
  page_out(kData);
  write("filter.sys", bytes_);
  auto target = nt::Target::open(dump(), {.image_paths = {folder_.string()}});
  const nt::Module* m = (*target)->module_at(base_);
  ASSERT_NE(m, nullptr);
  EXPECT_EQ(m->image_file(), (folder_ / "filter.sys").string());
  EXPECT_FALSE(memory::read<u8>(m->image()->bytes(), Rva(kData)).has_value());
  EXPECT_TRUE(memory::read<u8>(m->image()->bytes(), Rva(kPdata)).has_value());
}

}  // namespace
}  // namespace unhang
