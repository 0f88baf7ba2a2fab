// Golden files: tests/cases/<hang>/<command>.txt hold what commands print for each scene. A change of the
// output is a change of these files; people review the difference. UNHANG_BLESS=1 in the environment rewrites
// them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "app/command.h"
#include "base/format.h"
#include "report/text.h"
#include "synth/scene.h"
#include "synth/session.h"

namespace unhang {
namespace {

namespace fs = std::filesystem;

const fs::path kCases = UNHANG_SOURCE_DIR "/tests/cases";

struct Case {
  std::string folder;
  const char* build;
  synth::Scene (*make)(synth::MachineOptions);
};

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const synth::NamedScene& s : synth::kScenes) out.push_back({s.name, "10.0.19041.804", s.make});
  out.push_back({"busy_owner_windows_7", "6.1.7601.24540", synth::busy_owner});
  return out;
}

bool bless() {
  const char* b = std::getenv("UNHANG_BLESS");
  return b != nullptr && std::string_view(b) == "1";
}

std::string slurp(const fs::path& path) {
  std::ifstream f(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(f), {}};
}

// The first line that differs, for a message that people can read.
std::string difference(const std::string& expected, const std::string& got) {
  std::istringstream a(expected), b(got);
  std::string x, y;
  for (int line = 1;; line++) {
    const bool more_a = static_cast<bool>(std::getline(a, x)), more_b = static_cast<bool>(std::getline(b, y));
    if (!more_a && !more_b) return "only the ends of the files differ";
    if (more_a != more_b || x != y)
      return fmt::format("line {}:\n- {}\n+ {}", line, more_a ? x : "(end)", more_b ? y : "(end)");
  }
}

class CasesTest : public testing::TestWithParam<Case> {
 protected:
  // What stands in a file: each command with what it prints.
  static std::string run(app::Session& session, const std::vector<std::string>& lines) {
    std::string all;
    for (const std::string& line : lines) {
      const auto node = app::run_line(session, line);
      report::Text out(false);
      if (node)
        out.print(*node);
      else
        out.line("error: {}", text(node.error()));
      all += "unhang> " + line + "\n" + out.str();
    }
    return all;
  }

  static std::string analyse(app::Session& session, const std::vector<VirtAddr>& entry_threads = {}) {
    diagnose::Options options;
    options.entry_threads = entry_threads;
    report::Text out(false);
    out.print(app::analysis_node(session, diagnose::diagnose(session.world(), options), options));
    return out.str();
  }

  void expect(const std::string& command, const std::string& got) {
    const std::string name = command + ".txt";
    names_.insert(name);
    const fs::path path = kCases / GetParam().folder / name;
    ASSERT_FALSE(got.empty()) << name;
    // Nothing of the machine that the tests run on.
    EXPECT_EQ(got.find(UNHANG_SOURCE_DIR), std::string::npos) << name;
    EXPECT_EQ(got.find('\033'), std::string::npos) << name << ": colour in plain text";
    if (bless()) {
      fs::create_directories(path.parent_path());
      std::ofstream(path, std::ios::binary) << got;
      return;
    }
    ASSERT_TRUE(fs::exists(path)) << path << " is not there; UNHANG_BLESS=1 makes it";
    const std::string expected = slurp(path);
    EXPECT_TRUE(expected == got) << path << " differs at " << difference(expected, got);
  }

  std::set<std::string> names_;
};

TEST_P(CasesTest, PrintsWhatItPrinted) {
  const Case& c = GetParam();
  const synth::Scene scene = c.make({.build = c.build});
  const auto session = synth::open_session(scene.machine->dump());
  ASSERT_TRUE(session);
  expect("analyze", analyse(*session));
  if (const auto logon = scene.thread.find("logon"); logon != scene.thread.end())
    expect("analyze_entry", analyse(*session, {logon->second}));
  expect("locks", run(*session, {"!locks"}));
  expect("running", run(*session, {"!running -it"}));
  expect("stacks", run(*session, {"!stacks"}));
  if (!scene.culprit.is_null()) {
    const VirtAddr process(
        scene.machine->get(scene.culprit, "_KTHREAD",
                           scene.machine->has("_KTHREAD", "Process") ? "Process" : "ApcState.Process"));
    std::vector<std::string> threads{fmt::format("!thread {}", scene.culprit)};
    if (const auto logon = scene.thread.find("logon"); logon != scene.thread.end())
      threads.push_back(fmt::format("!thread {}", logon->second));
    expect("thread", run(*session, threads));
    expect("process", run(*session, {"!process 0 0", fmt::format("!process {} 7", process)}));
  } else {
    expect("process", run(*session, {"!process 0 0"}));
  }
  if (const auto irp = scene.object.find("irp"); irp != scene.object.end())
    expect("irp", run(*session, {fmt::format("!irp {}", irp->second)}));
  if (const auto port = scene.object.find("port"); port != scene.object.end())
    expect("alpc", run(*session, {fmt::format("!alpc /p {}", port->second), "!alpc /lpp 0n620"}));
  if (const auto queue = scene.object.find("queue"); queue != scene.object.end())
    expect("exqueue", run(*session, {"!exqueue"}));
  if (const auto section = scene.object.find("first"); section != scene.object.end())
    expect("cs", run(*session, {fmt::format(".thread {}", scene.culprit),
                                fmt::format("!cs {}", section->second), "!cs -l"}));
  // No file is left behind that nothing compares.
  for (const auto& f : fs::directory_iterator(kCases / c.folder))
    EXPECT_TRUE(names_.contains(f.path().filename().string())) << f.path() << " belongs to no command";
}

INSTANTIATE_TEST_SUITE_P(Hangs, CasesTest, testing::ValuesIn(cases()),
                         [](const auto& i) { return i.param.folder; });

TEST(Cases, EveryFolderIsACase) {
  std::set<std::string> known;
  for (const Case& c : cases()) known.insert(c.folder);
  for (const auto& f : fs::directory_iterator(kCases))
    EXPECT_TRUE(known.contains(f.path().filename().string())) << f.path();
}

}  // namespace
}  // namespace unhang
