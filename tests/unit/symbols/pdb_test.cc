// The PDB importer on the PDBs of our own guest: its headers say in comments what each structure is like, and
// the compiler made the PDB of them. And on damaged PDBs.
#include <gtest/gtest.h>
#include <regex.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "base/format.h"
#include "symbols/importer.h"
#include "symbols/layout.h"

namespace unhang::symbols {
namespace {

namespace fs = std::filesystem;

const fs::path kSamples = UNHANG_SOURCE_DIR "/samples";

// The importer is a program of its own; it lies beside the program that is tested, not beside this one.
class PdbTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string helper = UNHANG_BINARY_DIR "/unhang-import-pdb";
    ASSERT_TRUE(fs::exists(helper)) << helper << " has not been built";
    setenv("UNHANG_IMPORT_PDB", helper.c_str(), 1);
    directory_ = testing::TempDir() + "unhang-pdb-" + std::to_string(getpid());
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  static Result<std::shared_ptr<const Layout>> import(const fs::path& path) {
    const auto file = TRY(File::open(path.string()));
    const auto bytes = TRY(import_symbols(file));
    return Layout::from_bytes(bytes, path.string());
  }
  static std::vector<u8> slurp(const fs::path& path) {
    std::ifstream f(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
  }
  Result<std::shared_ptr<const Layout>> import_bytes(const std::vector<u8>& bytes) {
    const fs::path path = fs::path(directory_) / "damaged.pdb";
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return import(path);
  }
  std::string directory_;
};

struct Known {
  std::string type, member;
  u32 offset = 0;
  u32 bit = 0, bits = 0;  // bits 0: no bit-field
};
struct Headers {
  std::map<std::string, u32> sizes;
  std::vector<Known> members;
};

// POSIX, for GCC 12 with sanitizers warns inside std::regex. Groups that do not take part are empty.
class Pattern {
 public:
  explicit Pattern(const char* text) { EXPECT_EQ(regcomp(&compiled_, text, REG_EXTENDED), 0); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;
  ~Pattern() { regfree(&compiled_); }

  bool match(const std::string& line, std::vector<std::string>& groups) const {
    constexpr size_t kMost = 10;
    regmatch_t found[kMost];
    if (regexec(&compiled_, line.c_str(), kMost, found, 0) != 0) return false;
    groups.assign(kMost, "");
    for (size_t i = 0; i < kMost; i++)
      if (found[i].rm_so >= 0)
        groups[i] = line.substr(static_cast<size_t>(found[i].rm_so),
                                static_cast<size_t>(found[i].rm_eo - found[i].rm_so));
    return true;
  }

 private:
  regex_t compiled_{};
};

// "typedef struct _KEVENT {     // 0x18" and "  DISPATCHER_HEADER Header;  // 0x00  bits 0 1".
Headers read_headers() {
  const Pattern type_line("^typedef struct (_[A-Za-z0-9_]+) \\{ *// (0x[0-9a-f]+)");
  const Pattern member_line(
      "^ [^:;]*[^A-Za-z0-9_:;]([A-Za-z0-9_]+)(\\[[A-Za-z0-9_]+\\])*( : ([0-9]+))?; *// (0x[0-9a-f]+)( +bits "
      "([0-9]+) "
      "([0-9]+))?");
  Headers h;
  for (const auto& f : fs::directory_iterator(UNHANG_SOURCE_DIR "/tests/guest/inc")) {
    std::ifstream in(f.path());
    std::string type;
    std::vector<std::string> m;
    for (std::string line; std::getline(in, line);) {
      if (type_line.match(line, m)) {
        type = m[1];
        h.sizes[type] = static_cast<u32>(std::stoul(m[2], nullptr, 16));
      } else if (line.starts_with("}")) {
        type.clear();
      } else if (!type.empty() && member_line.match(line, m)) {
        Known k{.type = type, .member = m[1], .offset = static_cast<u32>(std::stoul(m[5], nullptr, 16))};
        // Some members of one bit are whole bytes here.
        if (!m[4].empty() && !m[7].empty()) {
          k.bit = static_cast<u32>(std::stoul(m[7]));
          k.bits = static_cast<u32>(std::stoul(m[8]));
        }
        h.members.push_back(k);
      }
    }
  }
  // Where a union has a name in several of its structures, the name alone does not say which is meant.
  std::map<std::pair<std::string, std::string>, int> times;
  for (const Known& k : h.members) times[{k.type, k.member}]++;
  std::erase_if(h.members, [&](const Known& k) { return times[{k.type, k.member}] > 1; });
  return h;
}

TEST_F(PdbTest, StructuresAreAsTheHeadersSay) {
  const auto imported = import(kSamples / "ntkrnlmp.pdb");
  ASSERT_TRUE(imported.has_value()) << text(imported.error());
  const Layout& l = **imported;
  EXPECT_EQ(l.origin(), "PDB");
  const Headers h = read_headers();
  size_t types = 0, members = 0, bits = 0;
  for (const auto& [name, size] : h.sizes) {
    const auto t = l.find_type(name);
    if (!t) continue;  // the kernel's code does not use all of them
    types++;
    EXPECT_EQ(t->size, size) << name;
  }
  for (const Known& k : h.members) {
    if (!l.find_type(k.type)) continue;
    const auto f = l.field(k.type, k.member);
    ASSERT_TRUE(f.has_value()) << k.type << "." << k.member;
    EXPECT_EQ(f->offset, k.offset) << k.type << "." << k.member;
    members++;
    EXPECT_EQ(f->bit_length, k.bits) << k.type << "." << k.member;
    EXPECT_EQ(f->bit_offset, k.bit) << k.type << "." << k.member;
    bits += k.bits != 0;
  }
  EXPECT_GT(types, 60u);
  EXPECT_GT(members, 400u);
  EXPECT_GT(bits, 15u);
}

TEST_F(PdbTest, KindsOfMembers) {
  const auto imported = import(kSamples / "ntkrnlmp.pdb");
  ASSERT_TRUE(imported.has_value());
  const Layout& l = **imported;
  const auto describe = [&](const char* type, const char* path) {
    const auto f = l.field(type, path);
    return f ? l.describe(f->type) : text(f.error());
  };
  EXPECT_EQ(describe("_KWAIT_BLOCK", "Thread"), "Ptr64 _KTHREAD");
  EXPECT_EQ(describe("_KWAIT_BLOCK", "WaitListEntry"), "_LIST_ENTRY");
  EXPECT_EQ(describe("_KWAIT_BLOCK", "WaitType"), "Uint1B");
  EXPECT_EQ(describe("_KPRIQUEUE", "EntryListHead"), "[32] _LIST_ENTRY");
  EXPECT_EQ(describe("_ERESOURCE", "ActiveCount"), "Int2B");
  // Through unnamed unions.
  EXPECT_EQ(l.field("_OWNER_ENTRY", "OwnerCount")->bit_length, 29);
  EXPECT_EQ(l.field("_OWNER_ENTRY", "TableSize")->bit_length, 0);
  EXPECT_EQ(l.enumerator("_KWAIT_REASON", 27), "WrResource");
}

TEST_F(PdbTest, AllSamplesHaveTheirIdentityAndSymbols) {
  size_t n = 0;
  for (const auto& f : fs::directory_iterator(kSamples)) {
    if (f.path().extension() != ".pdb") continue;
    n++;
    const auto l = import(f.path());
    ASSERT_TRUE(l.has_value()) << f.path() << text(l.error());
    EXPECT_NE((*l)->pdb().guid, (std::array<u8, 16>{})) << f.path();
    EXPECT_GT((*l)->symbol_count(), 0u) << f.path();
    // In the order of their addresses, each found by its name.
    u64 before = 0;
    (*l)->for_each_symbol([&](const Symbol& s) {
      EXPECT_GE(s.rva.value(), before);
      before = s.rva.value();
      EXPECT_TRUE((*l)->find_symbol(s.name).has_value()) << s.name;
      return true;
    });
  }
  EXPECT_GE(n, 6u);
}

// Whatever is wrong with a PDB: a layout that can be used, or one sentence. The helper may die of it; we do
// not.
TEST_F(PdbTest, DamagedAnywhere) {
  const std::vector<u8> whole = slurp(kSamples / "volmgr.pdb");
  ASSERT_GT(whole.size(), 50'000u);
  std::mt19937 random(11);
  size_t refused = 0;
  const auto try_it = [&](const std::vector<u8>& bytes, const std::string& what) {
    const auto l = import_bytes(bytes);
    if (l) return;
    refused++;
    EXPECT_TRUE(l.error().why == Why::bad_file || l.error().why == Why::limit ||
                l.error().why == Why::unsupported)
        << what << ": " << text(l.error());
    EXPECT_FALSE(text(l.error()).empty());
  };
  // The super block field by field, then pages at random.
  for (size_t at = 32; at < 56; at += 4)
    for (const u8 value : {u8{0}, u8{0xff}}) {
      std::vector<u8> b = whole;
      std::fill_n(b.begin() + static_cast<std::ptrdiff_t>(at), 4, value);
      try_it(b, fmt::format("super block {}", at));
    }
  for (int i = 0; i < 24; i++) {
    std::vector<u8> b = whole;
    const size_t at = random() % b.size();
    for (size_t k = at; k < std::min(at + 64, b.size()); k++) b[k] = static_cast<u8>(random());
    try_it(b, fmt::format("64 bytes at {:#x}", at));
  }
  for (const size_t size : {size_t{33}, size_t{56}, size_t{4096}, whole.size() / 2, whole.size() - 4096})
    try_it({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)},
           fmt::format("cut to {}", size));
  EXPECT_GT(refused, 5u) << "the damage did not reach anything";
}

TEST_F(PdbTest, NoHelperIsOneSentence) {
  setenv("UNHANG_IMPORT_PDB", (directory_ + "/nothing").c_str(), 1);
  const auto l = import(kSamples / "volmgr.pdb");
  ASSERT_FALSE(l.has_value());
  EXPECT_FALSE(text(l.error()).empty());
}

}  // namespace
}  // namespace unhang::symbols
