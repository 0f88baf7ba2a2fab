// The ISF importer: what a good file says, and what a bad one may say.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "symbols/builtin.h"
#include "symbols/importer.h"
#include "symbols/layout.h"

namespace unhang::symbols {
namespace {

using Json = nlohmann::json;

Json good() {
  return Json::parse(R"({
    "metadata": {"windows": {"pdb": {"GUID": "339E74133576439CBCDF7E0229DA3773", "age": 1,
                                     "database": "ntkrnlmp.pdb"}}},
    "base_types": {
      "unsigned long": {"endian": "little", "kind": "int", "signed": false, "size": 4},
      "long": {"endian": "little", "kind": "int", "signed": true, "size": 4},
      "float": {"endian": "little", "kind": "float", "signed": true, "size": 4},
      "char": {"endian": "little", "kind": "char", "signed": true, "size": 1},
      "void": {"endian": "little", "kind": "void", "signed": true, "size": 0}},
    "user_types": {
      "_T": {"kind": "struct", "size": 64, "fields": {
        "Number": {"offset": 8, "type": {"kind": "base", "name": "unsigned long"}},
        "Bit": {"offset": 12, "type": {"kind": "bitfield", "bit_position": 3, "bit_length": 2,
                "type": {"kind": "base", "name": "unsigned long"}}},
        "Next": {"offset": 16, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "_T"}}},
        "Name": {"offset": 24, "type": {"kind": "array", "count": 15, "subtype": {"kind": "base", "name": "char"}}},
        "u": {"offset": 40, "type": {"kind": "union", "name": "__unnamed_1"}},
        "Mode": {"offset": 48, "type": {"kind": "enum", "name": "_MODE"}},
        "Call": {"offset": 56, "type": {"kind": "pointer", "subtype": {"kind": "function"}}}}},
      "__unnamed_1": {"kind": "union", "size": 8, "fields": {
        "Inner": {"offset": 4, "type": {"kind": "base", "name": "long"}}}}},
    "enums": {"_MODE": {"base": "long", "size": 4, "constants": {"KernelMode": 0, "UserMode": 1, "Minus": -5}}},
    "symbols": {"PsInitialSystemProcess": {"address": 4660}, "??_C@_01ABC@x@": {"address": 99},
                "Beyond": {"address": 1099511627776}, "Zero": {"address": 0}}})");
}

Result<std::shared_ptr<const Layout>> import(const std::string& bytes) {
  const auto file = File::from_bytes({bytes.begin(), bytes.end()}, "test.json");
  const auto imported = TRY(import_symbols(file));
  return Layout::from_bytes(imported, "test.json");
}

void expect_field(const Layout& l, const char* path, u32 offset, u32 size, u8 bit = 0, u8 bits = 0) {
  const auto f = l.field("_T", path);
  ASSERT_TRUE(f.has_value()) << path;
  EXPECT_EQ(f->offset, offset) << path;
  EXPECT_EQ(f->size, size) << path;
  EXPECT_EQ(f->bit_offset, bit) << path;
  EXPECT_EQ(f->bit_length, bits) << path;
}

TEST(Isf, Good) {
  const auto imported = import(good().dump());
  ASSERT_TRUE(imported.has_value()) << text(imported.error());
  const Layout& l = **imported;
  EXPECT_EQ(l.pdb().name, "ntkrnlmp.pdb");
  EXPECT_EQ(l.pdb().key(), "339E74133576439CBCDF7E0229DA37731");
  EXPECT_EQ(l.origin(), "ISF");
  EXPECT_EQ(l.find_type("_T")->size, 64u);
  expect_field(l, "Number", 8, 4);
  expect_field(l, "Bit", 12, 4, 3, 2);
  expect_field(l, "Next", 16, 8);
  expect_field(l, "Name", 24, 15);
  expect_field(l, "u.Inner", 44, 4);
  expect_field(l, "Inner", 44, 4);
  expect_field(l, "Mode", 48, 4);
  expect_field(l, "Call", 56, 8);
  EXPECT_EQ(l.enumerator("_MODE", -5), "Minus");
  EXPECT_EQ(l.enumerator("_MODE", 1), "UserMode");
  EXPECT_EQ(l.find_symbol("PsInitialSystemProcess"), Rva(4660));
  EXPECT_EQ(l.symbol_count(), 1u) << "string constants and impossible addresses are left out";
  EXPECT_EQ(l.describe(l.field("_T", "Number")->type), "Uint4B");
  EXPECT_EQ(l.describe(l.field("_T", "Next")->type), "Ptr64 _T");
  EXPECT_EQ(l.describe(l.field("_T", "Name")->type), "[15] Char");
}

TEST(Isf, TruncatedAnywhere) {
  const std::string whole = good().dump();
  for (size_t size = 1; size < whole.size(); size++) {
    const auto l = import(whole.substr(0, size));
    ASSERT_FALSE(l.has_value()) << size;
    EXPECT_EQ(l.error().why, Why::bad_file);
    EXPECT_NE(text(l.error()).find("not valid JSON"), std::string::npos) << text(l.error());
  }
}

TEST(Isf, DamagedXz) {
  std::string packed(
      "\xfd"
      "7zXZ\0\0\4\xe6\xd6\xb4\x46",
      12);
  packed.resize(500, 'x');
  const auto l = import(packed);
  ASSERT_FALSE(l.has_value());
  EXPECT_FALSE(text(l.error()).empty());
}

TEST(Isf, NotSymbolsAtAll) {
  for (const char* bytes :
       {"{}", "{\"user_types\": 1}", "{\"user_types\": {}}", "{\"user_types\": {}, \"metadata\": []}",
        "{\"user_types\": {}, \"metadata\": {\"linux\": {}}}", "{\"user_types\": {}, \"metadata\": null}"}) {
    const auto l = import(bytes);
    ASSERT_FALSE(l.has_value()) << bytes;
    EXPECT_EQ(l.error().why, Why::bad_file);
  }
  EXPECT_EQ(import("PK\3\4").error().why, Why::unsupported);
  EXPECT_EQ(import("[1, 2]").error().why, Why::unsupported);
}

TEST(Isf, BadGuids) {
  for (const char* guid :
       {"", "339E7413", "339E74133576439CBCDF7E0229DA377X", "{339E7413-3576-439C-BCDF-7E0229DA3773}"}) {
    Json j = good();
    j["metadata"]["windows"]["pdb"]["GUID"] = guid;
    EXPECT_FALSE(import(j.dump()).has_value()) << guid;
  }
}

// Every value of the file replaced by one of another type. What cannot be understood is left out or refused;
// what is next to it stays.
TEST(Isf, EveryValueOfAnotherType) {
  const Json whole = good();
  const std::vector<Json> others{
      nullptr, true, "text", -1, 1.5, 1e300, 18446744073709551615u, Json::array({1, "x"}), Json::object()};
  size_t kept = 0, refused = 0;
  const Json flat = whole.flatten();
  for (const auto& [path, value] : flat.items()) {
    // The value itself and each of what it stands in.
    for (Json::json_pointer at(path); !at.empty(); at = at.parent_pointer())
      for (const Json& other : others) {
        Json j = whole;
        j[at] = other;
        const auto l = import(j.dump());
        if (!l) {
          EXPECT_EQ(l.error().why, Why::bad_file) << at.to_string() << " " << other;
          refused++;
          continue;
        }
        kept++;
        // Asking for anything must work; nothing is promised of what was changed.
        for (size_t i = 0; i < (*l)->type_count(); i++)
          for (const Member& m : (*l)->members((*l)->type(i))) (void)(*l)->describe(m.type);
        if (!at.to_string().starts_with("/symbols") && !at.to_string().starts_with("/metadata")) {
          EXPECT_EQ((*l)->find_symbol("PsInitialSystemProcess"), Rva(4660)) << at.to_string();
        }
        if (at.to_string().starts_with("/enums") || at.to_string().starts_with("/symbols")) {
          expect_field(**l, "Number", 8, 4);
        }
      }
  }
  EXPECT_GT(kept, 200u);
  EXPECT_GT(refused, 20u);
}

TEST(Isf, DeepNesting) {
  Json type = {{"kind", "base"}, {"name", "long"}};
  for (int i = 0; i < 200; i++) type = {{"kind", "pointer"}, {"subtype", type}};
  Json j = good();
  j["user_types"]["_T"]["fields"]["Deep"] = {{"offset", 0}, {"type", type}};
  const auto l = import(j.dump());
  ASSERT_TRUE(l.has_value());
  expect_field(**l, "Deep", 0, 8);
  // Deeper than any parser should go.
  const std::string bottomless = std::string(100'000, '{').insert(1, "\"user_types\":");
  EXPECT_FALSE(import(bottomless).has_value());
}

// A whole kernel: the same as the facts that are compiled in.
TEST(Isf, RealFile) {
  const auto path =
      std::filesystem::path(UNHANG_SOURCE_DIR) /
      "../shared/data/symbols/ntkrnlmp-10.0.19041.804-5278AFF86C341677D7D7835C85B7B844-1.json.xz";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "SKIPPED: " << path << " is not there";
  const auto file = File::open(path.string());
  ASSERT_TRUE(file.has_value());
  const auto bytes = import_symbols(*file);
  ASSERT_TRUE(bytes.has_value()) << text(bytes.error());
  const auto l = Layout::from_bytes(*bytes, "real");
  ASSERT_TRUE(l.has_value());
  EXPECT_EQ((*l)->pdb().key(), "5278AFF86C341677D7D7835C85B7B8441");
  EXPECT_GT((*l)->symbol_count(), 20'000u);
  const auto facts = builtin_layout("10.0.19041.804");
  size_t compared = 0;
  for (size_t i = 0; i < facts->type_count(); i++) {
    const Type t = facts->type(i);
    const auto imported = (*l)->find_type(t.name);
    ASSERT_TRUE(imported.has_value()) << t.name;
    EXPECT_EQ(imported->size, t.size) << t.name;
    for (const Member& m : facts->members(t)) {
      const auto f = (*l)->field(t.name, m.name);
      ASSERT_TRUE(f.has_value()) << t.name << "." << m.name;
      EXPECT_EQ(f->offset, m.offset) << t.name << "." << m.name;
      EXPECT_EQ(f->bit_offset, m.bit_offset) << t.name << "." << m.name;
      EXPECT_EQ(f->bit_length, m.bit_length) << t.name << "." << m.name;
      if (facts->size_of(m.type) != 0) {
        EXPECT_EQ(f->size, facts->size_of(m.type)) << t.name << "." << m.name;
      }
      compared++;
    }
  }
  EXPECT_GT(compared, 2000u);
}

}  // namespace
}  // namespace unhang::symbols
