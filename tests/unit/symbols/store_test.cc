// Where symbols are looked for, what is kept, and what is refused.
#include "symbols/store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace unhang::symbols {
namespace {

namespace fs = std::filesystem;

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("UNHANG_IMPORT_PDB", UNHANG_BINARY_DIR "/unhang-import-pdb", 1);
    root_ = fs::path(testing::TempDir()) / ("unhang-store-" + std::to_string(getpid()));
    fs::remove_all(root_);
    fs::create_directories(directory());
  }
  void TearDown() override { fs::remove_all(root_); }

  fs::path directory() const { return root_ / "symbols"; }
  std::string cache() const { return (root_ / "cache" / "layouts").string(); }

  static image::PdbId id(u8 n, const std::string& name = "ntkrnlmp.pdb") {
    image::PdbId i{.name = name, .age = 1};
    i.guid.fill(n);
    return i;
  }
  static std::vector<u8> layout_bytes(const image::PdbId& id) {
    LayoutBuilder b;
    b.set_identity(id, "", "test");
    b.add_type("_T", 8 + id.guid[0]);
    b.add_symbol("PsLoadedModuleList", Rva(0x1000));
    return b.build();
  }
  static void write(const fs::path& path, const std::vector<u8>& bytes) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  static void write_isf(const fs::path& path, const image::PdbId& id) {
    const std::string s =
        R"({"user_types": {"_T": {"size": 24, "fields": {}}}, "metadata": {"windows": {"pdb": {"database": ")" +
        id.name + R"(", "age": 1, "GUID": ")" + id.guid_text() + R"("}}}})";
    write(path, {s.begin(), s.end()});
  }
  // The sample kernel's PDB and who it is.
  static fs::path sample() { return UNHANG_SOURCE_DIR "/samples/ntkrnlmp.pdb"; }
  image::PdbId sample_id() {
    auto found = Store({}, "").import(sample().string());
    EXPECT_TRUE(found.has_value()) << (found ? "" : text(found.error()));
    image::PdbId id = found ? found->layout->pdb() : image::PdbId{};
    id.name = "ntkrnlmp.pdb";
    return id;
  }

  fs::path root_;
};

TEST_F(StoreTest, NamedFile) {
  const fs::path file = directory() / "anything.layout";
  write(file, layout_bytes(id(7)));
  Store store({file.string()}, "");
  const auto found = store.find(id(7));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->where, file.string());
  EXPECT_EQ(found->layout->find_type("_T")->size, 15u);
  EXPECT_FALSE(store.find(id(8)));
  image::PdbId other_age = id(7);
  other_age.age = 2;
  EXPECT_FALSE(store.find(other_age)) << "another age is another PDB";
}

// The form of a symbol server: name.pdb/GUIDAGE/name.pdb.
TEST_F(StoreTest, SymbolServerDirectory) {
  const image::PdbId sample_pdb = sample_id();
  const fs::path file = directory() / "ntkrnlmp.pdb" / sample_pdb.key() / "ntkrnlmp.pdb";
  fs::create_directories(file.parent_path());
  fs::copy_file(sample(), file);
  Store store({directory().string()}, cache());
  const auto found = store.find(sample_pdb);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->where, file.string());
  EXPECT_TRUE(found->layout->find_type("_ERESOURCE").has_value());
  // Under a GUID that is not in the directory there is nothing.
  EXPECT_FALSE(store.find(id(3)));
}

TEST_F(StoreTest, CacheIsReusedWithoutTheFile) {
  const image::PdbId sample_pdb = sample_id();
  const fs::path file = directory() / "ntkrnlmp.pdb";
  fs::copy_file(sample(), file);
  const fs::path kept = fs::path(cache()) / (sample_pdb.key() + ".layout");
  EXPECT_FALSE(fs::exists(kept));
  ASSERT_TRUE(Store({directory().string()}, cache()).find(sample_pdb));
  ASSERT_TRUE(fs::exists(kept));
  fs::remove(file);
  const auto again = Store({directory().string()}, cache()).find(sample_pdb);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->where, kept.string());
  EXPECT_TRUE(again->layout->find_type("_ERESOURCE").has_value());
  EXPECT_FALSE(Store({directory().string()}, "").find(sample_pdb)) << "without a cache there is none";
  // Nothing half-written is left beside it.
  EXPECT_EQ(std::distance(fs::directory_iterator(cache()), fs::directory_iterator()), 1);
}

TEST_F(StoreTest, DamagedCacheFileIsMadeAnew) {
  write_isf(directory() / "ntkrnlmp.json", id(5));
  const fs::path kept = fs::path(cache()) / (id(5).key() + ".layout");
  ASSERT_TRUE(Store({directory().string()}, cache()).find(id(5)));
  const auto good = fs::file_size(kept);
  fs::resize_file(kept, good / 2);
  const auto found = Store({directory().string()}, cache()).find(id(5));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->where, (directory() / "ntkrnlmp.json").string());
  EXPECT_EQ(fs::file_size(kept), good);
}

// A cache file that holds another PDB's layout under this one's name is not believed.
TEST_F(StoreTest, CacheFileOfAnotherPdbIsNotUsed) {
  write(fs::path(cache()) / (id(5).key() + ".layout"), layout_bytes(id(6)));
  EXPECT_FALSE(Store({}, cache()).find(id(5)));
  EXPECT_FALSE(Store({}, cache()).find(id(6)));
}

TEST_F(StoreTest, NamesWithTheGuidInThem) {
  write_isf(directory() / ("kernel-" + id(0xab).guid_text() + "-1.json"), id(0xab));
  write_isf(directory() / "ntkrnlmp.pdb" / (id(0xcd).guid_text() + "-1.json"), id(0xcd));
  Store store({directory().string()}, "");
  EXPECT_TRUE(store.find(id(0xab)));
  EXPECT_TRUE(store.find(id(0xcd))) << "Volatility's form";
  EXPECT_FALSE(store.find(id(0xef)));
}

// A file's name is no proof: what is in it decides.
TEST_F(StoreTest, NameThatLiesIsNoProof) {
  write_isf(directory() / (id(1).guid_text() + ".json"), id(2));
  Store store({directory().string()}, "");
  EXPECT_FALSE(store.find(id(1)));
}

TEST_F(StoreTest, FileNamedByTheUserGoesBeforeTheCache) {
  write(fs::path(cache()) / (id(7).key() + ".layout"), layout_bytes(id(7)));
  const fs::path file = directory() / "mine.layout";
  write(file, layout_bytes(id(7)));
  EXPECT_EQ(Store({file.string()}, cache()).find(id(7))->where, file.string());
}

TEST_F(StoreTest, MismatchNamesTheFileAndItsPdb) {
  const fs::path file = directory() / "wrong.layout";
  write(file, layout_bytes(id(7)));
  Store store({file.string()}, "");
  const auto mismatch = store.mismatch(id(8));
  ASSERT_TRUE(mismatch.has_value());
  EXPECT_EQ(mismatch->first, file.string());
  EXPECT_EQ(mismatch->second.guid, id(7).guid);
  EXPECT_FALSE(store.mismatch(id(7))) << "the right one is no mismatch";
  EXPECT_FALSE(store.mismatch(id(8, "ntfs.pdb"))) << "another module's symbols are wrong for nobody";
  // A directory may hold anything.
  EXPECT_FALSE(Store({directory().string()}, "").mismatch(id(8)));
}

TEST_F(StoreTest, ComplaintsSayWhatCouldNotBeUsed) {
  const fs::path file = directory() / "broken.json";
  write(file, {'{', '"'});
  Store store({file.string(), (directory() / "missing.pdb").string()}, "");
  EXPECT_FALSE(store.find(id(1)));
  ASSERT_EQ(store.complaints().size(), 2u);
  EXPECT_EQ(store.complaints()[0].where, file.string());
  EXPECT_NE(store.complaints()[0].why.find("JSON"), std::string::npos);
  EXPECT_NE(store.complaints()[1].why.find("No such file"), std::string::npos);
}

TEST_F(StoreTest, FindIfAsksEachOfThatName) {
  write(directory() / "ntkrnlmp-a.layout", layout_bytes(id(1)));
  write(directory() / "deeper" / "ntkrnlmp-b.layout", layout_bytes(id(2)));
  write(directory() / "ntfs.layout", layout_bytes(id(3, "ntfs.pdb")));
  Store store({directory().string()}, "");
  size_t asked = 0;
  const auto found = store.find_if("ntkrnlmp.pdb", [&](const Layout& l) {
    asked++;
    return l.pdb().guid == id(2).guid;
  });
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->layout->pdb().guid, id(2).guid);
  EXPECT_LE(asked, 2u) << "the file system's symbols are not the kernel's";
  EXPECT_FALSE(store.find_if("ntkrnlmp.pdb", [](const Layout&) { return false; }));
}

// A cache that cannot be written costs time, not the answer.
TEST_F(StoreTest, CacheThatCannotBeWritten) {
  write_isf(directory() / "ntkrnlmp.json", id(5));
  write(root_ / "file", {1});
  EXPECT_TRUE(Store({directory().string()}, (root_ / "file" / "cache").string()).find(id(5)));
}

}  // namespace
}  // namespace unhang::symbols
