// Layout files: what the builder writes is read back, and a damaged file is an error or an answer, never a
// crash.
#include "symbols/layout.h"

#include <gtest/gtest.h>

#include <random>

#include "symbols/layout_format.h"

namespace unhang::symbols {
namespace {

LayoutBuilder sample() {
  LayoutBuilder b;
  image::PdbId id{.name = "ntkrnlmp.pdb", .age = 2};
  for (size_t i = 0; i < 16; i++) id.guid[i] = static_cast<u8>(i * 17);
  b.set_identity(id, "10.0.1.2", "test");
  const u32 u32_ref = b.base_ref("unsigned long", 4, false), u16_ref = b.base_ref("unsigned short", 2, false);
  // Deliberately out of order: the builder sorts.
  b.add_type("_OUTER", 0x40);
  b.add_member("Last", 0x3c, u32_ref);
  b.add_member("Inner", 0x08, b.named_ref(TypeKind::structure, "_INNER"));
  b.add_member("Array", 0x10, b.array_ref(b.named_ref(TypeKind::structure, "_INNER"), 3));
  b.add_member("Pointer", 0x30, b.pointer_ref(b.named_ref(TypeKind::structure, "_OUTER")));
  b.add_member("u", 0x38, b.named_ref(TypeKind::structure, "__unnamed_12"));
  b.add_member("First", 0, u32_ref);
  b.add_member("Bits", 4, u32_ref, 3, 5);
  b.add_type("_INNER", 8);
  b.add_member("A", 0, u32_ref);
  b.add_member("B", 4, u16_ref);
  b.add_type("__unnamed_12", 4);
  b.add_member("Hidden", 0, u32_ref);
  b.add_member("HiddenHigh", 2, u16_ref);
  b.add_type("_PARTIAL", 8, true);
  b.add_enum("_COLOUR", 4);
  b.add_enumerator("Red", 1);
  b.add_enumerator("None", -1);
  b.add_symbol("Beta", Rva(0x2000));
  b.add_symbol("Alpha", Rva(0x1000));
  b.add_symbol("ZwClose", Rva(0x3000));
  b.add_symbol("NtClose", Rva(0x3000));
  b.add_symbol("_decorated@4", Rva(0x2000));
  return b;
}

std::vector<u8> bytes() {
  LayoutBuilder b = sample();
  return b.build();
}

std::shared_ptr<const Layout> layout() {
  auto l = Layout::from_bytes(bytes(), "test");
  EXPECT_TRUE(l.has_value()) << text(l.error());
  return *l;
}

void expect_field(const Layout& l, const char* path, u32 offset, u32 size, u8 bit_offset = 0,
                  u8 bit_length = 0) {
  const auto f = l.field("_OUTER", path);
  ASSERT_TRUE(f.has_value()) << path;
  EXPECT_EQ(f->offset, offset) << path;
  EXPECT_EQ(f->size, size) << path;
  EXPECT_EQ(f->bit_offset, bit_offset) << path;
  EXPECT_EQ(f->bit_length, bit_length) << path;
}

TEST(Layout, Identity) {
  const auto l = layout();
  EXPECT_EQ(l->pdb().name, "ntkrnlmp.pdb");
  EXPECT_EQ(l->pdb().key(), "33221100554477668899AABBCCDDEEFF2");
  EXPECT_EQ(l->build(), "10.0.1.2");
  EXPECT_EQ(l->origin(), "test");
}

TEST(Layout, Paths) {
  const auto l = layout();
  expect_field(*l, "First", 0, 4);
  expect_field(*l, "Bits", 4, 4, 3, 5);
  expect_field(*l, "Inner", 8, 8);
  expect_field(*l, "Inner.B", 12, 2);
  expect_field(*l, "Array", 0x10, 24);
  expect_field(*l, "Array[0]", 0x10, 8);
  expect_field(*l, "Array[2].B", 0x24, 2);
  expect_field(*l, "Pointer", 0x30, 8);
  // Through the unnamed union, with its name and without.
  expect_field(*l, "u.Hidden", 0x38, 4);
  expect_field(*l, "Hidden", 0x38, 4);
  expect_field(*l, "HiddenHigh", 0x3a, 2);
}

TEST(Layout, PathsThatLeadNowhere) {
  const auto l = layout();
  for (const char* path : {"", ".", "Nothing", "First.A", "Inner.C", "Inner.", "Inner..A", "Array[3]",
                           "Array[-1]", "Array[", "Array[]", "Array[1", "Array[1]B", "Array[4294967296]",
                           "First[0]", "Pointer.First", "firs", "Firs", "FirstX"}) {
    const auto f = l->field("_OUTER", path);
    ASSERT_FALSE(f.has_value()) << path;
    EXPECT_EQ(f.error().why, Why::no_member);
  }
  EXPECT_FALSE(l->field("_NOTHING", "First"));
  EXPECT_FALSE(l->field("_COLOUR", "Red")) << "an enumeration has no members";
}

TEST(Layout, TypesAndEnumerations) {
  const auto l = layout();
  EXPECT_EQ(l->type_count(), 5u);
  EXPECT_EQ(l->find_type("_OUTER")->size, 0x40u);
  EXPECT_TRUE(l->find_type("_PARTIAL")->partial);
  EXPECT_FALSE(l->find_type("_OUTER")->partial);
  EXPECT_FALSE(l->find_type("_OUTE"));
  const auto members = l->members(*l->find_type("_OUTER"));
  ASSERT_EQ(members.size(), 7u);
  EXPECT_EQ(members.front().name, "First");
  EXPECT_EQ(members.back().name, "Last");
  EXPECT_EQ(l->enumerator("_COLOUR", -1), "None");
  EXPECT_EQ(l->enumerator("_COLOUR", 1), "Red");
  EXPECT_EQ(l->enumerator("_COLOUR", 2), std::nullopt);
  EXPECT_EQ(l->describe(l->field("_OUTER", "Array")->type), "[3] _INNER");
  EXPECT_EQ(l->describe(l->field("_OUTER", "Pointer")->type), "Ptr64 _OUTER");
  EXPECT_EQ(l->describe(l->field("_OUTER", "Last")->type), "Uint4B");
}

TEST(Layout, Symbols) {
  const auto l = layout();
  EXPECT_EQ(l->find_symbol("Alpha"), Rva(0x1000));
  EXPECT_EQ(l->find_symbol("Beta"), Rva(0x2000));
  EXPECT_EQ(l->find_symbol("Gamma"), std::nullopt);
  EXPECT_EQ(l->symbol_at(Rva(0xfff)), std::nullopt);
  EXPECT_EQ(l->symbol_at(Rva(0x1000))->name, "Alpha");
  EXPECT_EQ(l->symbol_at(Rva(0x1fff))->name, "Alpha");
  EXPECT_EQ(l->symbol_at(Rva(0x2000))->name, "Beta") << "a plain name goes before a decorated one";
  EXPECT_EQ(l->symbol_at(Rva(0x3004))->name, "NtClose") << "a system call is known by its Nt name";
  EXPECT_EQ(l->symbol_after(Rva(0x1000))->name, "Beta");
  EXPECT_EQ(l->symbol_after(Rva(0x3000)), std::nullopt);
}

// ---- damage ----

// Asks for everything; what comes is anything, but it comes.
void use(const Layout& l) {
  size_t n = 0;
  for (size_t i = 0; i < std::min<size_t>(l.type_count(), 100); i++) {
    const Type t = l.type(i);
    for (const Member& m : l.members(t)) n += m.name.size() + l.size_of(m.type) + l.describe(m.type).size();
    for (const Enumerator& e : l.enumerators(t)) n += e.name.size();
    (void)l.field(t.name, "Inner.B");
  }
  for (const char* path : {"First", "Array[2].B", "HiddenHigh", "Pointer"}) (void)l.field("_OUTER", path);
  (void)l.enumerator("_COLOUR", 1);
  (void)l.find_symbol("Beta");
  for (u64 rva = 0; rva < 0x4000; rva += 0x800) {
    (void)l.symbol_at(Rva(rva));
    (void)l.symbol_after(Rva(rva));
  }
  (void)n;
}

TEST(LayoutDamage, BadMagicAndOtherVersions) {
  for (size_t i = 0; i < 8; i++) {
    std::vector<u8> b = bytes();
    b[i] ^= 1;
    const auto l = Layout::from_bytes(b, "damaged");
    ASSERT_FALSE(l.has_value());
    EXPECT_EQ(l.error().why, Why::bad_file);
    EXPECT_NE(text(l.error()).find("not a layout file"), std::string::npos);
  }
}

TEST(LayoutDamage, TruncatedAnywhere) {
  const std::vector<u8> whole = bytes();
  for (size_t size = 0; size < whole.size(); size++) {
    const auto l =
        Layout::from_bytes({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}, "cut");
    ASSERT_FALSE(l.has_value()) << size;
    EXPECT_EQ(l.error().why, Why::bad_file);
  }
  std::vector<u8> longer = whole;
  longer.push_back(0);
  EXPECT_FALSE(Layout::from_bytes(longer, "longer"));
}

// The header says the right size, but a table does not fit into it.
TEST(LayoutDamage, EveryTableCutShort) {
  FileHeader h;
  const std::vector<u8> whole = bytes();
  std::memcpy(&h, whole.data(), sizeof h);
  for (size_t table = 0; table < kTables; table++) {
    const u64 offset = h.tables[table][0], count = h.tables[table][1];
    ASSERT_GT(count, 0u) << "table " << table << " is empty: nothing is tested";
    const u64 end = offset + count * kRecordSize[table];
    std::vector<u8> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(end - 1));
    FileHeader lie = h;
    lie.size = cut.size();
    std::memcpy(cut.data(), &lie, sizeof lie);
    const auto l = Layout::from_bytes(cut, "cut");
    ASSERT_FALSE(l.has_value()) << "table " << table;
    EXPECT_NE(text(l.error()).find("a table lies outside of the file"), std::string::npos);
  }
}

TEST(LayoutDamage, WrongCountsAndOffsets) {
  FileHeader h;
  const std::vector<u8> whole = bytes();
  std::memcpy(&h, whole.data(), sizeof h);
  for (size_t table = 0; table < kTables; table++)
    for (const u64 value : {~u64{0}, ~u64{0} / 8, u64{1} << 32, u64{whole.size()}, u64{whole.size()} + 1})
      for (const size_t which : {0, 1}) {
        FileHeader lie = h;
        lie.tables[table][which] = value;
        std::vector<u8> b = whole;
        std::memcpy(b.data(), &lie, sizeof lie);
        EXPECT_FALSE(Layout::from_bytes(b, "lie")) << "table " << table << " " << value;
      }
  FileHeader fewer = h;
  fewer.tables[5][1]--;
  std::vector<u8> b = whole;
  std::memcpy(b.data(), &fewer, sizeof fewer);
  EXPECT_FALSE(Layout::from_bytes(b, "fewer")) << "the two symbol tables differ";
  b = whole;
  b.back() = 'x';
  EXPECT_FALSE(Layout::from_bytes(b, "strings"));
}

// Any byte behind the header may be anything.
TEST(LayoutDamage, AnyByteAnything) {
  const std::vector<u8> whole = bytes();
  for (size_t at = sizeof(FileHeader); at < whole.size(); at++)
    for (const u8 value : {u8{0}, u8{1}, u8{0x7f}, u8{0xff}, static_cast<u8>(whole[at] + 1)}) {
      std::vector<u8> b = whole;
      b[at] = value;
      const auto l = Layout::from_bytes(std::move(b), "damaged");
      if (l) use(**l);
    }
}

TEST(LayoutDamage, ManyBytesAtOnce) {
  const std::vector<u8> whole = bytes();
  std::mt19937 random(3);
  for (int round = 0; round < 3000; round++) {
    std::vector<u8> b = whole;
    for (int i = 0; i < 40; i++)
      b[sizeof(FileHeader) + random() % (b.size() - sizeof(FileHeader))] = static_cast<u8>(random());
    b.back() = 0;
    const auto l = Layout::from_bytes(std::move(b), "damaged");
    ASSERT_TRUE(l.has_value());
    use(**l);
  }
}

// Unnamed structures that contain themselves many times over: looking for a member ends in time.
TEST(LayoutDamage, UnnamedStructuresInACircle) {
  LayoutBuilder b;
  b.set_identity({.name = "x.pdb"}, "", "test");
  b.add_type("_OUTER", 8);
  const u32 ref = b.named_ref(TypeKind::structure, "__unnamed_1");
  for (int i = 0; i < 20; i++) b.add_member("m" + std::to_string(i), 0, ref);
  b.add_type("__unnamed_1", 8);
  for (int i = 0; i < 20; i++) b.add_member("n" + std::to_string(i), 0, ref);
  const auto l = Layout::from_bytes(b.build(), "circle");
  ASSERT_TRUE(l.has_value());
  EXPECT_FALSE((*l)->field("_OUTER", "Missing"));
  EXPECT_TRUE((*l)->field("_OUTER", "n3"));
}

TEST(LayoutDamage, ArraysAndPointersInACircle) {
  LayoutBuilder b;
  b.set_identity({.name = "x.pdb"}, "", "test");
  b.add_type("_T", 8);
  b.add_member("A", 0, b.ref({.kind = TypeKind::array, .inner = 1, .count = 0xffffffff}));
  b.add_member("P", 0, b.ref({.kind = TypeKind::pointer, .inner = 2}));
  const auto l = Layout::from_bytes(b.build(), "circle");
  ASSERT_TRUE(l.has_value());
  use(**l);
  EXPECT_FALSE((*l)->describe(1).empty());
  EXPECT_FALSE((*l)->describe(2).empty());
}

}  // namespace
}  // namespace unhang::symbols
