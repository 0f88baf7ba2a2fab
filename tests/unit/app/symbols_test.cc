// `unhang symbols` as people run it: fetching from a server, carrying layouts to another machine.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/format.h"
#include "base/xz.h"
#include "synth/cabinet.h"
#include "synth/symbol_server.h"

namespace unhang {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Outcome {
  int status = -1;
  std::string out, err;
  Json json() const { return Json::parse(out, nullptr, false); }
  Json rows() const { return json()["rows"]; }  // by value: a loop over it keeps it
};

class SymbolsCommand : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("unhang-symbols-" + std::to_string(getpid()));
    fs::remove_all(root_);
    fs::create_directories(root_);
    home("one");
    unsetenv("_NT_SYMBOL_PATH");
    unsetenv("_NT_SYMBOL_PROXY");
    unsetenv("http_proxy");
    const auto packed = File::open(UNHANG_SOURCE_DIR "/samples/hang.elf.xz");
    ASSERT_TRUE(packed.has_value());
    const std::vector<u8> bytes = *unpack_xz((*packed)->bytes(), u64{1} << 30);
    std::ofstream(dump(), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void TearDown() override {
    fs::remove_all(root_);
    unsetenv("_NT_SYMBOL_PATH");
    unsetenv("_NT_SYMBOL_PROXY");
  }

  // The machine with this cache.
  void home(const char* name) const { setenv("XDG_CACHE_HOME", (root_ / name).c_str(), 1); }
  std::string dump() const { return (root_ / "hang.elf").string(); }
  std::string path(const char* name) const { return (root_ / name).string(); }
  static std::vector<u8> slurp_bytes(const fs::path& path) {
    std::ifstream f(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
  }
  static std::string slurp(const fs::path& path) {
    const auto b = slurp_bytes(path);
    return {b.begin(), b.end()};
  }
  Outcome run(const std::string& arguments) const {
    const int status = std::system(
        fmt::format("'{}/unhang' {} > {} 2> {}", UNHANG_BINARY_DIR, arguments, path("out"), path("err"))
            .c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(path("out")),
            slurp(path("err"))};
  }
  // Everything that the sample needs, as the server keeps it.
  void serve_samples() {
    const Outcome all = run("symbols list --user " + dump() + " --json -");
    ASSERT_EQ(all.status, 0) << all.err;
    for (const Json& row : all.rows()) {
      if (row["pdb"].is_null()) continue;
      const std::string pdb = row["pdb"];
      const fs::path file = fs::path(UNHANG_SOURCE_DIR) / "samples" / pdb;
      if (!fs::exists(file)) continue;
      const std::string at = row["pdb_key"].get<std::string>().substr(pdb.size() + 1);
      server_.answer(fmt::format("/{}/{}/{}", pdb, at, pdb), {.body = slurp_bytes(file)});
    }
  }
  // module -> result of fetch.
  static std::map<std::string, std::string> results(const Outcome& o) {
    std::map<std::string, std::string> out;
    for (const Json& row : o.rows()) out[row["module"]] = row["result"];
    return out;
  }

  fs::path root_;
  synth::SymbolServer server_;
};

TEST_F(SymbolsCommand, ListHasUserModulesOfStacks) {
  const Outcome o = run("symbols list " + dump() + " --json -");
  ASSERT_EQ(o.status, 0) << o.err;
  std::map<std::string, std::string> mode;
  for (const Json& row : o.rows()) mode[row["module"]] = row["mode"];
  EXPECT_EQ(mode["nt"], "kernel");
  EXPECT_EQ(mode["ntdll"], "user");
  EXPECT_TRUE(server_.asked().empty());
}

TEST_F(SymbolsCommand, Fetch) {
  serve_samples();
  const Outcome o = run("symbols fetch " + dump() + " --symbol-path " + server_.url() + " --json -");
  EXPECT_EQ(o.status, 0) << o.err;
  auto r = results(o);
  EXPECT_TRUE(r["nt"].starts_with("fetched")) << o.out;
  EXPECT_TRUE(r["Ntfs"].starts_with("fetched")) << o.out;
  EXPECT_EQ(r.count("ntdll"), 0u);
  EXPECT_EQ(o.json()["failed"], 0);
  // It is used from now on, without a word about it.
  EXPECT_NE(run("info " + dump()).out.find("symbols (PDB"), std::string::npos);
  const size_t asked = server_.asked().size();
  const Outcome again =
      run("symbols fetch --user " + dump() + " --symbol-path " + server_.url() + " --json -");
  r = results(again);
  EXPECT_EQ(r["nt"], "already there");
  EXPECT_TRUE(r["ntdll"].starts_with("fetched")) << again.out;
  EXPECT_GT(server_.asked().size(), asked);
}

TEST_F(SymbolsCommand, CheckOfAllLayoutsAtHand) {
  const Json builtin = run("symbols check --json -").json();
  EXPECT_EQ(builtin["layouts"].size(), 12u);
  for (const Json& l : builtin["layouts"]) {
    EXPECT_EQ(l["required_missing"], 0) << l["layout"];
    EXPECT_GT(l["resolved"], 100) << l["layout"];
  }
  run("symbols import " UNHANG_SOURCE_DIR "/samples/ntkrnlmp.pdb");
  EXPECT_EQ(run("symbols check --json -").json()["layouts"].size(), 13u) << "and those in the cache";
}

TEST_F(SymbolsCommand, CheckOfATable) {
  const std::string kernel = UNHANG_SOURCE_DIR "/samples/ntkrnlmp.pdb";
  const Outcome good = run("symbols check " + kernel + " --json -");
  EXPECT_EQ(good.status, 0) << good.err;
  EXPECT_EQ(good.json()["layouts"][0]["required_missing"], 0) << good.out;
  const Outcome driver = run("symbols check " UNHANG_SOURCE_DIR "/samples/ntfs.pdb");
  EXPECT_EQ(driver.status, 2);
  EXPECT_NE(driver.err.find("not of a kernel"), std::string::npos) << driver.err;
}

// A structure of which half is left out: what is required and in no other table either is the user's to know.
TEST_F(SymbolsCommand, CheckOfATableWithoutRequiredMembers) {
  std::ofstream(path("half.json")) << R"({
    "metadata": {"windows": {"pdb": {"GUID": "339E74133576439CBCDF7E0229DA3773", "age": 1,
                                     "database": "ntkrnlmp.pdb"}}},
    "base_types": {"void": {"endian": "little", "kind": "void", "signed": true, "size": 0}}, "enums": {},
    "user_types": {"_EPROCESS": {"kind": "struct", "size": 64, "fields": {
      "Peb": {"offset": 8, "type": {"kind": "pointer", "subtype": {"kind": "base", "name": "void"}}}}}},
    "symbols": {"PsInitialSystemProcess": {"address": 4660}}})";
  const Outcome o = run("symbols check " + path("half.json"));
  EXPECT_EQ(o.status, 2) << o.err;
  EXPECT_NE(o.out.find("required, not in it: _EPROCESS.UniqueProcessId"), std::string::npos) << o.out;
  EXPECT_EQ(o.out.find("_EPROCESS.Peb"), std::string::npos) << o.out;
  EXPECT_NE(o.out.find("required, taken from"), std::string::npos) << "types that it lacks as a whole";
}

TEST_F(SymbolsCommand, EnvironmentAsDebuggersHaveIt) {
  serve_samples();
  setenv("_NT_SYMBOL_PATH", fmt::format("srv*{}*http://symbols.invalid", path("store")).c_str(), 1);
  setenv("_NT_SYMBOL_PROXY", server_.host().c_str(), 1);
  const Outcome o = run("symbols fetch " + dump());
  EXPECT_EQ(o.status, 2) << "the proxy does not know that host's files";
  EXPECT_NE(o.err.find("none of"), std::string::npos) << o.err;
  ASSERT_FALSE(server_.asked().empty());
  EXPECT_TRUE(server_.asked().front().starts_with("http://symbols.invalid/ntkrnlmp.pdb/"));
  unsetenv("_NT_SYMBOL_PROXY");
  setenv("_NT_SYMBOL_PATH", fmt::format("srv*{}*{}", path("store"), server_.url()).c_str(), 1);
  EXPECT_EQ(run("symbols fetch " + dump()).status, 0);
  EXPECT_TRUE(fs::exists(path("store") + "/ntkrnlmp.pdb"));
}

TEST_F(SymbolsCommand, DryRunAsksNobody) {
  const Outcome o = run("symbols fetch --dry-run " + dump() + " --symbol-path " + server_.url());
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_NE(o.out.find(server_.url() + "/ntkrnlmp.pdb/"), std::string::npos) << o.out;
  EXPECT_TRUE(server_.asked().empty());
  // Without a path it is Microsoft's server.
  EXPECT_NE(run("symbols fetch --dry-run " + dump()).out.find("https://msdl.microsoft.com/download/symbols/"),
            std::string::npos);
}

// Only fetch uses the network, whatever the environment says.
TEST_F(SymbolsCommand, NobodyElseUsesTheNetwork) {
  setenv("_NT_SYMBOL_PATH", server_.url().c_str(), 1);
  for (const char* command : {"analyze", "info", "symbols list --user"})
    EXPECT_LE(run(std::string(command) + " " + dump()).status, 1) << command;
  EXPECT_TRUE(server_.asked().empty());
}

// Ctrl-C while a file comes: nothing stays behind.
TEST_F(SymbolsCommand, InterruptedFetchLeavesNothing) {
  const Outcome list = run("symbols list " + dump() + " --json -");
  const std::string key = list.rows()[0]["pdb_key"];
  const std::string pdb = key.substr(0, key.find(' ')), at = key.substr(key.find(' ') + 1);
  server_.answer(fmt::format("/{}/{}/{}", pdb, at, pdb),
                 {.body = std::vector<u8>(5000), .claimed = 1 << 20, .stalls = true});
  const std::string program = UNHANG_BINARY_DIR "/unhang", server = server_.url(), store = path("store");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (std::freopen(path("out").c_str(), "w", stdout) == nullptr ||
        std::freopen(path("err").c_str(), "w", stderr) == nullptr)
      _exit(99);
    signal(SIGINT, SIG_DFL);  // a shell's background jobs ignore it
    const std::string from = fmt::format("srv*{}*{}", store, server);
    execl(program.c_str(), "unhang", "symbols", "fetch", dump().c_str(), "--symbol-path", from.c_str(),
          nullptr);
    _exit(99);
  }
  while (server_.asked().empty()) usleep(10'000);
  usleep(100'000);
  kill(child, SIGINT);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 3) << status;
  EXPECT_NE(slurp(path("err")).find("ended by a signal"), std::string::npos) << slurp(path("err"));
  EXPECT_EQ(server_.asked().size(), 1u) << "no other file is asked for";
  for (const auto& f : fs::recursive_directory_iterator(root_))
    EXPECT_EQ(f.path().string().find(".unhang-"), std::string::npos) << f.path();
}

TEST_F(SymbolsCommand, Mistakes) {
  for (const auto& [arguments, words] : std::map<std::string, std::string>{
           {"symbols fetch " + dump() + " --symbol-path ';'", "names no place"},
           {"symbols fetch " + dump() + " --symbol-path 'C:\\symbols'", "path of Windows"},
           {"symbols fetch " + path("missing") + " --symbol-path " + server_.url(), "No such file"},
           {"symbols pack -o " + path("x.tar"), "no layouts in the cache"},
           {"symbols import " + path("missing"), "No such file"},
           {"analyze " + dump() + " --image-path " + path("missing"), "no such folder of image files"},
       }) {
    const Outcome o = run(arguments);
    EXPECT_EQ(o.status, 2) << arguments;
    EXPECT_EQ(o.out, "") << arguments;
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << o.err;
    EXPECT_NE(o.err.find(words), std::string::npos) << o.err;
  }
}

TEST_F(SymbolsCommand, PackAndUnpack) {
  ASSERT_EQ(run("symbols import " UNHANG_SOURCE_DIR "/samples/ntkrnlmp.pdb " UNHANG_SOURCE_DIR
                "/samples/ntfs.pdb " UNHANG_SOURCE_DIR "/samples/php-cgi.pdb")
                .status,
            0);
  const Outcome all = run("symbols pack -o " + path("all.tar") + " --json -");
  EXPECT_EQ(all.status, 0) << all.err;
  EXPECT_EQ(all.json()["layouts"], 3);
  // Only what the dump needs: no thread's stack leads through php-cgi.exe's own PDB unless it is on one.
  const Outcome some = run("symbols pack -o " + path("some.tar") + " " + dump() + " --json -");
  EXPECT_EQ(some.status, 0) << some.err;
  EXPECT_GE(some.json()["layouts"], 2);
  home("two");
  EXPECT_EQ(run("info " + dump()).out.find("symbols (PDB"), std::string::npos);
  const Outcome in = run("symbols unpack " + path("some.tar"));
  EXPECT_EQ(in.status, 0) << in.err;
  EXPECT_NE(in.out.find("ntkrnlmp.pdb"), std::string::npos) << in.out;
  EXPECT_NE(run("info " + dump()).out.find("symbols (PDB"), std::string::npos);
  home("three");
  EXPECT_EQ(run("symbols import " + path("all.tar") + " --json -").json()["rows"].size(), 3u);
}

}  // namespace
}  // namespace unhang
