// Layouts in a tar file: there and back, and archives that somebody else made.
#include "symbols/archive.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace unhang::symbols {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<u8>;

class ArchiveTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("unhang-archive-" + std::to_string(getpid()));
    fs::remove_all(root_);
    fs::create_directories(root_ / "in");
  }
  void TearDown() override { fs::remove_all(root_); }

  static image::PdbId id(u8 n) {
    image::PdbId i{.name = "x.pdb", .age = 0x1a};
    i.guid.fill(n);
    return i;
  }
  static Bytes layout(u8 n) {
    LayoutBuilder b;
    b.set_identity(id(n), "", "test");
    b.add_type("_T", 100 + n);
    return b.build();
  }
  std::string put(const std::string& name, const Bytes& bytes) const {
    const fs::path path = root_ / "in" / name;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path.string();
  }
  std::string out() const { return (root_ / "layouts.tar").string(); }
  Store store() const { return Store({}, (root_ / "cache").string()); }
  static Bytes slurp(const fs::path& path) {
    std::ifstream f(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
  }
  // What the system's tar makes of the folder "in".
  Bytes tar(const std::string& arguments) const {
    const std::string command =
        fmt::format("cd {} && tar --format=ustar -cf {} {}", (root_ / "in").string(), out(), arguments);
    EXPECT_EQ(std::system(command.c_str()), 0);
    return slurp(out());
  }

  fs::path root_;
};

TEST_F(ArchiveTest, ThereAndBack) {
  std::vector<Gap> left_out;
  const auto packed = pack_layouts({put("a.layout", layout(1)), put("b.layout", layout(2)),
                                    put("again.layout", layout(1)), put("junk.layout", {1, 2, 3})},
                                   out(), left_out);
  ASSERT_TRUE(packed.has_value());
  EXPECT_EQ(*packed, 2u);
  ASSERT_EQ(left_out.size(), 1u);
  const Bytes bytes = slurp(out());
  EXPECT_TRUE(is_archive(ByteView(bytes)));
  Store s = store();
  const auto unpacked = unpack_layouts(ByteView(bytes), s);
  ASSERT_TRUE(unpacked.has_value()) << text(unpacked.error());
  EXPECT_EQ(unpacked->layouts.size(), 2u);
  EXPECT_TRUE(unpacked->left_out.empty());
  EXPECT_EQ(store().find(id(2))->layout->find_type("_T")->size, 102u);
  // Other programs read it.
  EXPECT_EQ(std::system(fmt::format("tar -tf {} > {}", out(), (root_ / "list").string()).c_str()), 0);
  const Bytes list = slurp(root_ / "list");
  EXPECT_EQ(std::string(list.begin(), list.end()), id(1).key() + ".layout\n" + id(2).key() + ".layout\n");
}

TEST_F(ArchiveTest, MadeByOthers) {
  put(id(3).key() + ".layout", layout(3));
  put("README", {'x'});
  const Bytes bytes = tar(".");
  Store s = store();
  const auto unpacked = unpack_layouts(ByteView(bytes), s);
  ASSERT_TRUE(unpacked.has_value()) << text(unpacked.error());
  EXPECT_EQ(unpacked->layouts.size(), 1u);
  ASSERT_EQ(unpacked->left_out.size(), 1u);
  EXPECT_EQ(unpacked->left_out[0].where, "./README");
}

TEST_F(ArchiveTest, HostileMembers) {
  // A name that leaves the folder, a layout under another's name, damage under a good name, a link.
  put("good", layout(4));
  put(id(6).key() + ".layout", layout(5));
  put(id(7).key() + ".layout", Bytes(1000, 'x'));
  fs::create_symlink("/etc/passwd", root_ / "in" / (id(8).key() + ".layout"));
  const Bytes bytes =
      tar(fmt::format("--transform 's,good,../../{}.layout,' -P good {}.layout {}.layout {}.layout",
                      id(4).key(), id(6).key(), id(7).key(), id(8).key()));
  Store s = store();
  const auto unpacked = unpack_layouts(ByteView(bytes), s);
  ASSERT_TRUE(unpacked.has_value()) << text(unpacked.error());
  EXPECT_TRUE(unpacked->layouts.empty());
  ASSERT_EQ(unpacked->left_out.size(), 4u);
  EXPECT_NE(unpacked->left_out[1].why.find(id(5).key()), std::string::npos);
  EXPECT_FALSE(fs::exists(root_ / "cache"));
}

TEST_F(ArchiveTest, Damage) {
  std::vector<Gap> left_out;
  ASSERT_TRUE(pack_layouts({put("a.layout", layout(1)), put("b.layout", layout(2))}, out(), left_out));
  const Bytes bytes = slurp(out());
  for (size_t size = 0; size < bytes.size() - 1024; size += 128) {
    Store s = store();
    EXPECT_FALSE(unpack_layouts(ByteView(bytes.data(), size), s).has_value()) << size;
  }
  for (size_t at = 0; at < 512; at++) {
    Bytes bad = bytes;
    bad[at] ^= 0x11;
    Store s = store();
    EXPECT_FALSE(unpack_layouts(ByteView(bad), s).has_value()) << at;
  }
}

}  // namespace
}  // namespace unhang::symbols
