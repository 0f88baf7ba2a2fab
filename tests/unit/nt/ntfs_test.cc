// NTFS records as they lie in memory, whole and damaged, and what a scan makes of them.
#include <gtest/gtest.h>

#include <cstring>

#include "base/utf.h"
#include "nt/ntfs/record.h"
#include "nt/ntfs/scan.h"
#include "synth/memory.h"

namespace unhang::nt::ntfs {
namespace {

using Record = std::vector<u8>;
constexpr u64 kFirstTime = 0x01d9'0000'0000'0000;
constexpr u64 kDirectory = u64{3} << 48 | 77;  // record 77 in its third life

template <class T>
void put(Record& r, size_t at, T value) {
  ASSERT_LE(at + sizeof value, r.size());
  std::memcpy(r.data() + at, &value, sizeof value);
}
template <class T>
T get(const Record& r, size_t at) {
  T value{};
  std::memcpy(&value, r.data() + at, sizeof value);
  return value;
}

struct Entry {
  std::string name;
  u64 file = 0;
  u64 parent = kDirectory;
  u8 name_space = 3;
  u32 flags = 0x20;
  u64 created = kFirstTime;
};

void put_file_name(Record& r, size_t at, const Entry& e) {
  put(r, at, e.parent);
  put(r, at + 8, e.created);
  put<u64>(r, at + 0x30, 123);
  put(r, at + 0x38, e.flags);
  r[at + 0x40] = static_cast<u8>(e.name.size());
  r[at + 0x41] = e.name_space;
  for (size_t i = 0; i < e.name.size(); i++) put<u16>(r, at + 0x42 + i * 2, static_cast<u8>(e.name[i]));
}

// An index buffer in memory, restored as NTFS keeps its own copies.
Record index_buffer(const std::vector<Entry>& entries) {
  Record r(4096);
  std::memcpy(r.data(), "INDX", 4);
  put<u16>(r, 4, 0x28);
  put<u16>(r, 6, 9);
  put<u32>(r, 0x18, 0x28);  // first entry, from 0x18
  size_t at = 0x40;
  for (const Entry& e : entries) {
    const size_t stream = 0x42 + e.name.size() * 2, length = (0x10 + stream + 7) & ~size_t{7};
    put(r, at, e.file);
    put<u16>(r, at + 8, static_cast<u16>(length));
    put<u16>(r, at + 10, static_cast<u16>(stream));
    put_file_name(r, at + 0x10, e);
    at += length;
  }
  put<u16>(r, at + 8, 0x10);
  put<u16>(r, at + 12, 2);  // the end
  put<u32>(r, 0x1c, static_cast<u32>(at + 0x10 - 0x18));
  put<u32>(r, 0x20, 4096 - 0x18);
  // The fix-up array: a sequence number and what stands at the sectors' ends.
  put<u16>(r, 0x28, 0x0b0e);
  for (size_t i = 1; i <= 8; i++) put(r, 0x28 + i * 2, get<u16>(r, i * 512 - 2));
  return r;
}

Record file_record(u32 number, u16 sequence, const std::vector<Entry>& names, bool in_use = true) {
  Record r(1024);
  std::memcpy(r.data(), "FILE", 4);
  put<u16>(r, 4, 0x30);
  put<u16>(r, 6, 3);
  put<u16>(r, 0x10, sequence);
  put<u16>(r, 0x14, 0x38);
  put<u16>(r, 0x16, in_use ? 1 : 0);
  put(r, 0x2c, number);
  size_t at = 0x38;
  put<u32>(r, at, 0x10);  // $STANDARD_INFORMATION
  put<u32>(r, at + 4, 0x60);
  at += 0x60;
  for (const Entry& e : names) {
    const size_t length = (0x18 + 0x42 + e.name.size() * 2 + 7) & ~size_t{7};
    put<u32>(r, at, 0x30);
    put<u32>(r, at + 4, static_cast<u32>(length));
    put<u16>(r, at + 0x14, 0x18);
    put_file_name(r, at + 0x18, e);
    at += length;
  }
  put<u32>(r, at, 0xffffffff);
  put<u32>(r, 0x18, static_cast<u32>(at + 8));
  put<u16>(r, 0x30, 0x0007);
  for (size_t i = 1; i <= 2; i++) put(r, 0x30 + i * 2, get<u16>(r, i * 512 - 2));
  return r;
}

// As it is on disk: the sequence number at the end of each sector.
Record raw(Record r) {
  const size_t array = get<u16>(r, 4), count = get<u16>(r, 6);
  for (size_t i = 1; i < count; i++) put(r, i * 512 - 2, get<u16>(r, array));
  return r;
}

std::vector<std::string> index_names(const Record& r) {
  std::vector<std::string> out;
  for_each_index_name(r, [&](const Name& n) { out.push_back(utf16_to_utf8(n.utf16)); });
  return out;
}
std::vector<std::string> file_names(const Record& r) {
  std::vector<std::string> out;
  for_each_file_name(r, [&](const Name& n) { out.push_back(utf16_to_utf8(n.utf16)); });
  return out;
}

std::vector<Entry> many(size_t count) {
  std::vector<Entry> out;
  for (size_t i = 0; i < count; i++)
    out.push_back(
        {.name = "sess_" + std::to_string(1000 + i) + "abcdefghij", .file = u64{1} << 48 | (500 + i)});
  return out;
}
std::vector<std::string> names_of(const std::vector<Entry>& entries) {
  std::vector<std::string> out;
  for (const Entry& e : entries) out.push_back(e.name);
  return out;
}

// ---- fix-ups ----

TEST(NtfsFixup, RestoredInMemory) {
  Record r = index_buffer(many(30));
  const Record before = r;
  EXPECT_EQ(apply_fixups(r), Fixup::applied_before);
  EXPECT_EQ(r, before);
}

TEST(NtfsFixup, AsOnDisk) {
  const Record whole = index_buffer(many(30));
  Record r = raw(whole);
  EXPECT_NE(index_names(r), names_of(many(30))) << "no name crosses a sector's end: nothing is tested";
  EXPECT_EQ(apply_fixups(r), Fixup::applied_here);
  EXPECT_EQ(r, whole);
  EXPECT_EQ(apply_fixups(r), Fixup::applied_before) << "a second time changes nothing";
}

// A real value may equal the sequence number.
TEST(NtfsFixup, ValueThatEqualsTheSequenceNumber) {
  Record r = index_buffer(many(30));
  put<u16>(r, 3 * 512 - 2, 0x0b0e);
  put<u16>(r, 0x28 + 3 * 2, 0x0b0e);
  Record on_disk = raw(r);
  EXPECT_EQ(apply_fixups(r), Fixup::applied_before);
  EXPECT_EQ(apply_fixups(on_disk), Fixup::applied_here);
  EXPECT_EQ(on_disk, r);
}

// A torn write: one sector is of another generation.
TEST(NtfsFixup, TornRecordIsDamaged) {
  for (size_t sector = 1; sector <= 8; sector++) {
    Record r = raw(index_buffer(many(30)));
    put<u16>(r, sector * 512 - 2, 0x0b0d);
    const Record before = r;
    EXPECT_EQ(apply_fixups(r), Fixup::damaged) << sector;
    EXPECT_EQ(r, before) << "nothing is changed";
  }
}

TEST(NtfsFixup, LyingHeaders) {
  struct Lie {
    size_t at;
    u16 value;
  };
  for (const Lie lie : {Lie{4, 0}, Lie{4, 0x27}, Lie{4, 0xfff}, Lie{4, 0xffff}, Lie{4, 4096 - 17}, Lie{6, 0},
                        Lie{6, 10}, Lie{6, 0xffff}}) {
    Record r = raw(index_buffer(many(30)));
    put(r, lie.at, lie.value);
    const Record before = r;
    EXPECT_EQ(apply_fixups(r), Fixup::damaged) << lie.at << " = " << lie.value;
    EXPECT_EQ(r, before);
  }
  Record tiny(6);
  EXPECT_EQ(apply_fixups(tiny), Fixup::damaged);
  Record none;
  EXPECT_EQ(apply_fixups(none), Fixup::damaged);
}

// ---- index buffers ----

TEST(NtfsIndex, Names) {
  const std::vector<Entry> entries{{.name = "a.txt", .file = u64{2} << 48 | 10, .created = kFirstTime + 5},
                                   {.name = "LONGNA~1.TXT", .file = 11, .name_space = 2},
                                   {.name = "folder", .file = 12, .flags = 0x10000010}};
  std::vector<Name> names;
  const Record r = index_buffer(entries);
  for_each_index_name(r, [&](const Name& n) { names.push_back(n); });
  ASSERT_EQ(names.size(), 3u);
  EXPECT_EQ(names[0].file, u64{2} << 48 | 10);
  EXPECT_EQ(names[0].parent, kDirectory);
  EXPECT_EQ(names[0].created, kFirstTime + 5);
  EXPECT_EQ(names[0].size, 123u);
  EXPECT_FALSE(names[0].directory());
  EXPECT_EQ(names[1].name_space, 2);
  EXPECT_TRUE(names[2].directory());
  EXPECT_EQ(index_names(r), names_of(entries));
}

TEST(NtfsIndex, EmptyOne) {
  EXPECT_TRUE(index_names(index_buffer({})).empty());
  EXPECT_TRUE(index_names(Record(4096)).empty());
  EXPECT_TRUE(index_names(Record(10)).empty());
  EXPECT_TRUE(index_names({}).empty());
}

// What stands before the damage is had; behind it nothing is invented.
TEST(NtfsIndex, LyingSizes) {
  const auto entries = many(6);
  const Record whole = index_buffer(entries);
  const size_t length = get<u16>(whole, 0x40 + 8), third = 0x40 + 2 * length;
  const auto first_two = std::vector<std::string>{entries[0].name, entries[1].name};
  for (const u16 lie : {u16{0}, u16{8}, u16{0x11}, u16{0xfff8}, static_cast<u16>(length + 4)}) {
    Record r = whole;
    put(r, third + 8, lie);
    EXPECT_EQ(index_names(r), first_two) << lie;
  }
  for (const u32 lie : {u32{0xffffffff}, u32{4096}, u32{4097 - 0x18}}) {
    Record r = whole;
    put(r, 0x18, lie);  // the first entry
    EXPECT_TRUE(index_names(r).empty()) << lie;
    r = whole;
    put(r, 0x1c, lie);  // the end of them
    EXPECT_TRUE(index_names(r).empty()) << lie;
  }
  Record shorter = whole;
  put<u32>(shorter, 0x1c, static_cast<u32>(third + 4 - 0x18));
  EXPECT_EQ(index_names(shorter), first_two);
}

// A name may not run over its entry: what follows is another file's.
TEST(NtfsIndex, NameThatRunsOverItsEntry) {
  const auto entries = many(4);
  Record r = index_buffer(entries);
  const size_t length = get<u16>(r, 0x40 + 8), second = 0x40 + length;
  r[second + 0x10 + 0x40] = 0xff;
  auto expected = names_of(entries);
  expected.erase(expected.begin() + 1);
  EXPECT_EQ(index_names(r), expected);
  // Nor the stream over the entry.
  r = index_buffer(entries);
  put<u16>(r, second + 10, 0x7fff);
  EXPECT_EQ(index_names(r), expected);
  // Nor may a name be empty or of an unknown name space.
  r = index_buffer(entries);
  r[second + 0x10 + 0x40] = 0;
  EXPECT_EQ(index_names(r), expected);
  r = index_buffer(entries);
  r[second + 0x10 + 0x41] = 4;
  EXPECT_EQ(index_names(r), expected);
}

// ---- file records ----

TEST(NtfsFile, AllItsNames) {
  const Record r = file_record(
      1234, 9, {{.name = "LONGNA~1.TMP", .name_space = 2}, {.name = "long name.tmp", .name_space = 1}});
  EXPECT_EQ(file_names(r), (std::vector<std::string>{"LONGNA~1.TMP", "long name.tmp"}));
  for_each_file_name(r, [](const Name& n) {
    EXPECT_EQ(n.file, u64{9} << 48 | 1234);
    EXPECT_EQ(n.parent, kDirectory);
  });
}

TEST(NtfsFile, DeletedOnesAreLeftOut) {
  EXPECT_TRUE(file_names(file_record(1, 1, {{.name = "gone"}}, false)).empty());
}

TEST(NtfsFile, LyingSizes) {
  const std::vector<Entry> names{{.name = "first"}, {.name = "second"}};
  const Record whole = file_record(1, 1, names);
  const size_t first = 0x38 + 0x60, second = first + get<u32>(whole, first + 4);
  for (const u32 lie : {u32{0}, u32{0x10}, u32{0x5b}, u32{0xfffffff8}, u32{0x400}}) {
    Record r = whole;
    put(r, second + 4, lie);
    EXPECT_EQ(file_names(r), std::vector<std::string>{"first"}) << lie;
  }
  Record r = whole;
  put<u32>(r, 0x18, 0xffffffff);  // uses more than there is
  EXPECT_EQ(file_names(r), names_of(names));
  put<u32>(r, 0x18, static_cast<u32>(second));
  EXPECT_EQ(file_names(r), std::vector<std::string>{"first"});
  r = whole;
  put<u16>(r, 0x14, 0xffff);  // the first attribute
  EXPECT_TRUE(file_names(r).empty());
  r = whole;
  put<u16>(r, first + 0x14, 0xffff);  // the value of one
  EXPECT_EQ(file_names(r), std::vector<std::string>{"second"});
  r = whole;
  r[first + 8] = 1;  // not resident: there is no name here
  EXPECT_EQ(file_names(r), std::vector<std::string>{"second"});
  r = whole;
  r[first + 0x18 + 0x40] = 0xff;  // a name over its attribute
  EXPECT_EQ(file_names(r), std::vector<std::string>{"second"});
}

// Any byte may be anything; the reader ends and stays inside.
TEST(NtfsDamage, AnyByteAnything) {
  const Record index = index_buffer(many(20)), file = file_record(5, 1, many(3));
  for (size_t at = 0; at < 0x200; at++)
    for (const u8 value : {u8{0}, u8{1}, u8{0x7f}, u8{0xff}}) {
      Record a = index, b = file;
      a[at] = b[at] = value;
      (void)apply_fixups(a);
      (void)apply_fixups(b);
      EXPECT_LE(index_names(a).size(), 64u);
      EXPECT_LE(file_names(b).size(), 64u);
    }
}

// ---- the scan ----

class NtfsScan : public testing::Test {
 protected:
  void put_page(u64 pfn, const Record& a, size_t at = 0) {
    std::memcpy(pages_.page(Pfn{pfn}) + at, a.data(), a.size());
  }
  DirectoryContents scan(const std::string& path, const std::vector<std::string>& children) {
    return scan_directory(pages_, path, children, {.threads = 2, .budget = std::chrono::minutes(5)});
  }
  synth::Pages pages_;
};

TEST_F(NtfsScan, DirectoryByItsOpenFiles) {
  auto a = many(20);
  a[4].created = kFirstTime - 100;
  a[7].created = kFirstTime + 900;
  std::vector<Entry> b;
  for (u64 i = 0; i < 5; i++)
    b.push_back({.name = "IE" + std::to_string(i) + ".tmp", .file = u64{1} << 48 | (900 + i)});
  // Aliases of the same files, and files of the directory's earlier life and of another directory.
  b.push_back({.name = "SESS_1~1", .file = u64{1} << 48 | 500, .name_space = 2});
  b.push_back({.name = "older", .file = 950, .parent = u64{2} << 48 | 77});
  b.push_back({.name = "elsewhere", .file = 951, .parent = 78});
  put_page(0x10, index_buffer(a));
  put_page(0x30, raw(index_buffer(b)));
  put_page(0x31, file_record(900, 1, {b[0]}), 1024);                       // known already
  put_page(0x31, file_record(777, 1, {{.name = "unindexed.tmp"}}), 3072);  // only here
  put_page(0x31, file_record(778, 1, {{.name = "deleted.tmp"}}, false));
  Record torn = raw(index_buffer({{.name = "torn", .file = 990}}));
  put<u16>(torn, 1022, 0x5555);
  put_page(0x40, torn);
  const DirectoryContents c = scan("\\Windows\\Temp", {a[0].name, "SESS_1003ABCDEFGHIJ"});
  EXPECT_EQ(c.reference, kDirectory);
  EXPECT_EQ(c.confidence, Confidence::derived);
  EXPECT_EQ(c.names, 26u);
  EXPECT_EQ(c.indexed_names, 25u);
  EXPECT_EQ(c.index_buffers, 2u);
  EXPECT_EQ(c.raw_fixups, 1u);
  EXPECT_EQ(c.file_records, 2u);
  EXPECT_EQ(c.short_names, 1u);
  EXPECT_EQ(c.oldest, kFirstTime - 100);
  EXPECT_EQ(c.oldest_name, a[4].name);
  EXPECT_EQ(c.newest_name, a[7].name);
  ASSERT_EQ(c.patterns.size(), 3u);
  EXPECT_EQ(c.patterns[0].pattern, "sess_*");
  EXPECT_EQ(c.patterns[0].count, 20u);
  EXPECT_EQ(c.patterns[1].pattern, "IE*.tmp");
  EXPECT_EQ(c.patterns[1].count, 5u);
  EXPECT_EQ(c.bytes_scanned, c.bytes_total);
  EXPECT_EQ(c.bytes_total, 4 * kPageSize);
}

TEST_F(NtfsScan, DirectoryByItsPath) {
  put_page(0x10, index_buffer({{.name = "Windows", .file = 30, .parent = 5, .flags = 0x10000000}}));
  put_page(0x11, index_buffer({{.name = "Temp", .file = 77, .parent = 30, .flags = 0x10000000}}));
  put_page(0x12, index_buffer(many(3)));
  const DirectoryContents c = scan("\\Windows\\Temp", {});
  EXPECT_EQ(c.reference & kRecordNumberMask, 77u);
  EXPECT_EQ(c.confidence, Confidence::heuristic);
  EXPECT_EQ(c.names, 3u);
}

TEST_F(NtfsScan, NothingIsInvented) {
  put_page(0x10, index_buffer(many(3)));
  EXPECT_EQ(scan("\\Users", {"nobody.txt"}).reference, 0u);
  EXPECT_EQ(scan("\\Users", {"nobody.txt"}).names, 0u);
  EXPECT_EQ(scan("", {}).reference, 0u);
}

TEST(NtfsPattern, OfNames) {
  const std::pair<const char*, const char*> kPatterns[] = {{"sess_0kc1lm3qsd", "sess_*"},
                                                           {"IE-5F3A.tmp", "IE-*.tmp"},
                                                           {"php1A2B.tmp", "php*.tmp"},
                                                           {"index.html", "index.html"},
                                                           {"readme", "readme"},
                                                           {"12345.log", "*.log"},
                                                           {"~DF1234.TMP", "~*.TMP"},
                                                           {".htaccess", ".*"},
                                                           {"archive.tar.gz", "archive.*.gz"},
                                                           {"file.backup", "file.*"},
                                                           {"", ""},
                                                           {"{2781-A}.dat", "{*.dat"},
                                                           {"a b c.txt", "a *.txt"},
                                                           {"\xc3\x9c"
                                                            "bung1.txt",
                                                            "\xc3\x9c"
                                                            "bung*.txt"}};
  for (const auto& [name, pattern] : kPatterns) EXPECT_EQ(pattern_of(name), pattern) << name;
}

}  // namespace
}  // namespace unhang::nt::ntfs
