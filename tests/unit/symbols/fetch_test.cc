// Fetching from a symbol server on this machine: every form that one keeps a PDB in, and every way it fails.
#include "symbols/fetch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "synth/cabinet.h"
#include "synth/symbol_server.h"

namespace unhang::symbols {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<u8>;

constexpr const char* kName = "volmgr.pdb";

class FetchTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("UNHANG_IMPORT_PDB", UNHANG_BINARY_DIR "/unhang-import-pdb", 1);
    for (const char* name :
         {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
      unsetenv(name);
    root_ = fs::path(testing::TempDir()) / ("unhang-fetch-" + std::to_string(getpid()));
    fs::remove_all(root_);
    fs::create_directories(root_);
    const auto found = Store({}, "").import(UNHANG_SOURCE_DIR "/samples/volmgr.pdb");
    ASSERT_TRUE(found.has_value()) << text(found.error());
    id_ = found->layout->pdb();
  }
  void TearDown() override {
    // No folder of ours is left anywhere.
    for (const auto& entry : fs::recursive_directory_iterator(root_))
      EXPECT_EQ(entry.path().string().find(".unhang-"), std::string::npos) << entry.path();
    fs::remove_all(root_);
  }

  static Bytes slurp(const fs::path& path) {
    std::ifstream f(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
  }
  static Bytes pdb() { return slurp(UNHANG_SOURCE_DIR "/samples/volmgr.pdb"); }
  static Bytes words(const std::string& s) { return {s.begin(), s.end()}; }

  std::string cache() const { return (root_ / "layouts").string(); }
  std::string folder(const char* name) const { return (root_ / name).string(); }
  std::string home() const { return fmt::format("/{}/{}/", kName, id_.key()); }

  static HttpOptions quick() {
    return {.connect_timeout = std::chrono::milliseconds(2000),
            .stall_timeout = std::chrono::seconds(3),
            .retry_delay = std::chrono::milliseconds(1)};
  }
  Fetched fetch(const std::string& path, HttpOptions http = quick()) {
    Store store({}, cache());
    return Fetcher(parse_symbol_path(path, folder("default")), std::move(http), store).fetch(id_, {});
  }
  Fetched fetch() { return fetch(server_.url()); }
  bool kept() const { return Store({}, cache()).find(id_).has_value(); }
  // It failed, and the last thing that it says contains these words.
  void failed(const Fetched& f, const std::string& part) {
    EXPECT_FALSE(f.ok);
    EXPECT_FALSE(kept());
    ASSERT_FALSE(f.problems.empty()) << part;
    EXPECT_NE(f.problems.back().find(part), std::string::npos) << f.problems.back();
  }

  fs::path root_;
  synth::SymbolServer server_;
  image::PdbId id_;
};

TEST_F(FetchTest, Plain) {
  server_.answer(home() + kName, {.body = pdb()});
  const Fetched f = fetch();
  EXPECT_TRUE(f.ok);
  EXPECT_EQ(f.from, server_.url(home() + kName));
  EXPECT_EQ(f.bytes, pdb().size());
  EXPECT_TRUE(kept());
  EXPECT_EQ(server_.asked(), std::vector<std::string>{home() + kName});
  EXPECT_EQ(server_.user_agent(), "Microsoft-Symbol-Server/10.0");
}

TEST_F(FetchTest, FillsTheFoldersBeforeIt) {
  server_.answer(home() + kName, {.body = pdb()});
  const Fetched f = fetch("srv*" + folder("a") + "*" + folder("b") + "*" + server_.url());
  EXPECT_TRUE(f.ok);
  EXPECT_EQ(f.kept_in.size(), 2u);
  for (const char* name : {"a", "b"}) {
    EXPECT_EQ(slurp(folder(name) + home() + kName), pdb());
    // Nothing half-made is left beside it.
    EXPECT_EQ(std::distance(fs::directory_iterator(folder(name) + home()), fs::directory_iterator()), 1);
  }
  // The next one is served from there, and the near folder from the far one.
  fs::remove_all(folder("a"));
  EXPECT_EQ(fetch("srv*" + folder("a") + "*" + folder("b") + "*" + server_.url()).from,
            folder("b") + home() + kName);
  EXPECT_EQ(slurp(folder("a") + home() + kName), pdb());
  EXPECT_EQ(server_.asked().size(), 1u);
}

TEST_F(FetchTest, ElementsAreAskedInTheirOrder) {
  fs::create_directories(folder("plain"));
  std::ofstream(folder("plain") + "/" + kName) << "not this one";
  server_.answer(home() + kName, {.body = pdb()});
  const Fetched f = fetch("cache*" + folder("k") + ";" + folder("plain") + ";" + server_.url());
  EXPECT_TRUE(f.ok);
  ASSERT_EQ(f.problems.size(), 1u);
  EXPECT_NE(f.problems[0].find(folder("plain")), std::string::npos);
  EXPECT_EQ(slurp(folder("k") + home() + kName), pdb());
}

TEST_F(FetchTest, FolderFormsThatDebuggersKnow) {
  for (const std::string& at :
       {home() + kName, "/" + std::string(kName), "/symbols/pdb/" + std::string(kName)}) {
    fs::remove_all(folder("f"));
    fs::create_directories(fs::path(folder("f") + at).parent_path());
    std::ofstream(folder("f") + at, std::ios::binary)
        .write(reinterpret_cast<const char*>(pdb().data()), 94208);
    EXPECT_TRUE(fetch(folder("f")).ok) << at;
  }
  // A store with index2.txt has one level more.
  const std::string deep = folder("deep") + "/" + std::string(kName).substr(0, 2) + home();
  fs::create_directories(deep);
  std::ofstream(folder("deep") + "/index2.txt") << "";
  fs::copy_file(UNHANG_SOURCE_DIR "/samples/volmgr.pdb", deep + kName);
  EXPECT_EQ(fetch("srv*" + folder("deep")).from, deep + kName);
}

TEST_F(FetchTest, Packed) {
  server_.answer(home() + "volmgr.pd_", {.body = synth::cabinet(pdb(), kName)});
  const Fetched f = fetch("srv*" + folder("a") + "*" + server_.url());
  EXPECT_TRUE(f.ok);
  EXPECT_EQ(f.from, server_.url(home() + "volmgr.pd_"));
  EXPECT_EQ(slurp(folder("a") + home() + kName), pdb()) << "kept as it is when unpacked";
}

TEST_F(FetchTest, HostileCabinets) {
  server_.answer(home() + "volmgr.pd_", {.body = synth::cabinet(pdb(), kName, {.claimed_size = 0x7ffffff0})});
  HttpOptions small = quick();
  small.most_bytes = 1 << 20;
  failed(fetch(server_.url(), small), "too much");
  server_.answer(home() + kName, {.body = words("MSCF and nothing else")});
  failed(fetch(), "cabinet");
}

TEST_F(FetchTest, Pointers) {
  server_.answer(home() + "file.ptr", {.body = words("PATH:" + server_.url("/elsewhere") + "\r\n")});
  server_.answer("/elsewhere", {.body = pdb()});
  EXPECT_TRUE(fetch().ok);
  fs::remove_all(cache());
  // In a folder it may name a file of this machine.
  fs::create_directories(folder("f") + home());
  std::ofstream(folder("f") + home() + "file.ptr") << "PATH:" UNHANG_SOURCE_DIR "/samples/volmgr.pdb";
  EXPECT_TRUE(fetch(folder("f")).ok);
  fs::remove_all(cache());
  std::ofstream(folder("f") + home() + "file.ptr") << "PATH:\\\\server\\share\\volmgr.pdb";
  failed(fetch(folder("f")), "\\\\server\\share\\volmgr.pdb, which cannot be reached");
  std::ofstream(folder("f") + home() + "file.ptr") << "MSG: these symbols are private";
  failed(fetch(folder("f")), "these symbols are private");
}

// A server does not make this program read files of the machine it runs on.
TEST_F(FetchTest, PointerOfAServerToALocalFile) {
  server_.answer(home() + "file.ptr", {.body = words("PATH:" UNHANG_SOURCE_DIR "/samples/volmgr.pdb")});
  failed(fetch(), "cannot be reached");
  synth::SymbolServer other;
  other.answer(home() + kName,
               {.status = 302, .location = "file://" UNHANG_SOURCE_DIR "/samples/volmgr.pdb"});
  failed(fetch(other.url()), "file");
}

TEST_F(FetchTest, NotThere) {
  const Fetched f = fetch();
  EXPECT_FALSE(f.ok);
  EXPECT_TRUE(f.problems.empty());
  EXPECT_EQ(f.asked, std::vector<std::string>{server_.url()});
  // All three forms were asked for.
  EXPECT_EQ(server_.asked(),
            (std::vector<std::string>{home() + kName, home() + "volmgr.pd_", home() + "file.ptr"}));
}

TEST_F(FetchTest, Redirect) {
  server_.answer(home() + kName, {.status = 302, .location = server_.url("/blob")});
  server_.answer("/blob", {.body = pdb()});
  EXPECT_TRUE(fetch().ok);
  // One that goes round ends.
  fs::remove_all(cache());
  synth::SymbolServer round;
  round.answer(home() + kName, {.status = 302, .location = round.url(home() + kName)});
  failed(fetch(round.url()), "redirect");
}

TEST_F(FetchTest, AnotherBuildsPdb) {
  server_.answer(home() + kName, {.body = slurp(UNHANG_SOURCE_DIR "/samples/ntfs.pdb")});
  failed(fetch("srv*" + folder("a") + "*" + server_.url()), "another build's PDB");
  EXPECT_FALSE(fs::exists(folder("a") + home() + kName));
  // Another age is another PDB.
  image::PdbId older = id_;
  older.age++;
  server_.answer(fmt::format("/{}/{}/{}", kName, older.key(), kName), {.body = pdb()});
  Store store({}, cache());
  EXPECT_FALSE(Fetcher(parse_symbol_path(server_.url(), ""), quick(), store).fetch(older, {}).ok);
}

TEST_F(FetchTest, PageForPeople) {
  server_.answer(home() + kName, {.body = words("<html>please log in</html>")});
  failed(fetch(), "neither a PDB nor");
}

TEST_F(FetchTest, CutShort) {
  const Bytes whole = pdb();
  const Bytes half(whole.begin(), whole.begin() + 40'000);
  server_.answer(home() + kName, {.body = half, .claimed = whole.size()});
  failed(fetch(), "");
  EXPECT_EQ(server_.asked().size(), 3u) << "what may pass is tried three times, then no other form";
  // A body that is short and says so.
  synth::SymbolServer other;
  other.answer(home() + kName, {.body = half});
  failed(fetch(other.url()), "damaged");
}

TEST_F(FetchTest, ErrorsThatPass) {
  server_.answer(home() + kName, {.status = 503});
  server_.answer(home() + kName, {.body = pdb()});
  EXPECT_TRUE(fetch().ok);
  fs::remove_all(cache());
  synth::SymbolServer refusing;
  refusing.answer(home() + kName, {.status = 403});
  failed(fetch(refusing.url()), "the server says 403");
  EXPECT_EQ(refusing.asked().size(), 1u);
}

TEST_F(FetchTest, TooLarge) {
  HttpOptions small = quick();
  small.most_bytes = 1 << 16;
  server_.answer(home() + kName, {.body = pdb()});
  failed(fetch(server_.url(), small), "larger than");
}

TEST_F(FetchTest, NoServer) {
  std::string gone;
  {
    const synth::SymbolServer s;
    gone = s.url();
  }
  failed(fetch(gone), "");
  // It is asked once, not for every module.
  Store store({}, cache());
  Fetcher fetcher(parse_symbol_path(gone, ""), {.retry_delay = std::chrono::milliseconds(300)}, store);
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; i++) EXPECT_FALSE(fetcher.fetch(id_, {}).problems.empty());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(5));
}

TEST_F(FetchTest, Proxy) {
  // The proxy is asked for the whole address of a host that does not exist.
  const std::string url = "http://symbols.invalid" + home() + kName;
  server_.answer(url, {.body = pdb()});
  HttpOptions http = quick();
  http.proxy = server_.host();
  EXPECT_TRUE(fetch("http://symbols.invalid", http).ok);
  fs::remove_all(cache());
  setenv("http_proxy", server_.url().c_str(), 1);
  EXPECT_TRUE(fetch("http://symbols.invalid").ok);
  unsetenv("http_proxy");
  EXPECT_EQ(server_.asked(), (std::vector<std::string>{url, url}));
}

// A folder that cannot be written costs its copy, not the answer.
TEST_F(FetchTest, FolderThatCannotBeWritten) {
  std::ofstream(folder("file")) << "x";
  server_.answer(home() + kName, {.body = pdb()});
  const Fetched f = fetch("srv*" + folder("file") + "*" + server_.url());
  EXPECT_TRUE(f.ok);
  EXPECT_EQ(f.problems.size(), 1u);
  EXPECT_TRUE(f.kept_in.empty());
}

TEST_F(FetchTest, NamesFromADumpAreHostile) {
  for (const char* name : {"", ".", "..", "../x.pdb", "a/b.pdb", "a\\b.pdb", ".hidden", "x\n.pdb"})
    EXPECT_FALSE(Fetcher::usable(name)) << name;
  EXPECT_TRUE(Fetcher::usable("ntkrnlmp.pdb"));
  id_.name = "a b%?#.pdb";
  Store store({}, cache());
  const Fetcher f(parse_symbol_path("https://host/s", ""), {}, store);
  EXPECT_EQ(f.urls(id_)[0],
            fmt::format("https://host/s/a%20b%25%3F%23.pdb/{}/a%20b%25%3F%23.pdb", id_.key()));
}

}  // namespace
}  // namespace unhang::symbols
