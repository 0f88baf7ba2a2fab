// The built-in facts against their source, read here in another way than the script that wrote them: every
// member of every build, its offset, its size and its bits.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/format.h"
#include "base/xz.h"
#include "nt/member.h"
#include "symbols/builtin.h"
#include "synth/machine.h"

namespace unhang::symbols {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

fs::path source() {
  return fs::path(UNHANG_SOURCE_DIR) / ".." / "shared" / "data" / "symbols";
}

class Isf {
 public:
  explicit Isf(const fs::path& path) {
    const auto file = File::open(path.string());
    EXPECT_TRUE(file.has_value());
    const auto bytes = unpack_xz((*file)->bytes(), u64{1} << 30);
    EXPECT_TRUE(bytes.has_value());
    json_ = Json::parse(bytes->begin(), bytes->end());
    types_ = &json_["user_types"];
  }

  struct Place {
    u64 offset = 0, size = 0;
    u64 bit_offset = 0, bit_length = 0;
  };
  // A dotted path, each part a member by its own name.
  std::optional<Place> find(const std::string& type, const std::string& path) const {
    const auto t = types_->find(type);
    if (t == types_->end()) return std::nullopt;
    const auto dot = path.find('.');
    const auto& fields = (*t)["fields"];
    const auto f = fields.find(path.substr(0, dot));
    if (f == fields.end()) return std::nullopt;
    const u64 offset = (*f)["offset"];
    const Json& what = (*f)["type"];
    if (dot != path.npos) {
      auto inner = find(what.value("name", ""), path.substr(dot + 1));
      if (inner) inner->offset += offset;
      return inner;
    }
    Place p{.offset = offset, .size = size(what)};
    if (what["kind"] == "bitfield") {
      p.bit_offset = what["bit_position"];
      p.bit_length = what["bit_length"];
    }
    return p;
  }
  bool has_type(const std::string& type) const { return types_->contains(type); }
  u64 type_size(const std::string& type) const { return (*types_)[type]["size"]; }
  std::vector<std::string> members(const std::string& type) const {
    std::vector<std::string> out;
    for (const auto& [name, f] : (*types_)[type]["fields"].items()) out.push_back(name);
    return out;
  }
  const Json& enumeration(const std::string& name) const { return json_["enums"][name]; }

 private:
  u64 size(const Json& t) const {
    const std::string kind = t["kind"];
    if (kind == "pointer") return 8;
    if (kind == "base") return json_["base_types"][t["name"].get<std::string>()]["size"];
    if (kind == "array") return t["count"].get<u64>() * size(t["subtype"]);
    if (kind == "bitfield") return size(t["type"]);
    if (kind == "enum") return json_["enums"][t["name"].get<std::string>()]["size"];
    if (kind == "struct" || kind == "union" || kind == "class") {
      const auto it = types_->find(t["name"].get<std::string>());
      return it == types_->end() ? 0 : (*it)["size"].get<u64>();
    }
    return 0;
  }
  Json json_;
  Json* types_ = nullptr;
};

std::optional<fs::path> isf_of(const std::string& build) {
  if (!fs::exists(source())) return std::nullopt;
  for (const auto& f : fs::directory_iterator(source()))
    if (f.path().filename().string().starts_with("ntkrnlmp-" + build + "-")) return f.path();
  return std::nullopt;
}

class FactsTest : public testing::TestWithParam<std::string> {};

TEST_P(FactsTest, SameAsTheirSource) {
  const std::string& build = GetParam();
  const auto path = isf_of(build);
  if (!path) GTEST_SKIP() << "SKIPPED: no symbol table of " << build << " under " << source();
  const Isf isf(*path);
  const auto layout = builtin_layout(build);
  ASSERT_TRUE(layout);
  size_t compared = 0;
  for (size_t i = 0; i < layout->type_count(); i++) {
    const Type type = layout->type(i);
    const std::string name(type.name);
    if (type.is_enum) {
      const Json& e = isf.enumeration(name);
      ASSERT_TRUE(e.is_object()) << name;
      EXPECT_EQ(layout->enumerators(type).size(), e["constants"].size()) << name;
      for (const Enumerator& x : layout->enumerators(type))
        EXPECT_EQ(e["constants"].value(std::string(x.name), i64{-999}), x.value) << name << "." << x.name;
      continue;
    }
    ASSERT_TRUE(isf.has_type(name)) << name;
    EXPECT_EQ(type.size, isf.type_size(name)) << name;
    EXPECT_FALSE(type.partial) << name;
    std::set<std::string> listed;
    for (const Member& m : layout->members(type)) {
      const std::string member(m.name);
      listed.insert(member);
      const auto place = isf.find(name, member);
      ASSERT_TRUE(place.has_value()) << name << "." << member;
      EXPECT_EQ(m.offset, place->offset) << name << "." << member;
      EXPECT_EQ(m.bit_offset, place->bit_offset) << name << "." << member;
      EXPECT_EQ(m.bit_length, place->bit_length) << name << "." << member;
      // What is embedded and not among the facts has no size there.
      if (const u64 size = layout->size_of(m.type); size != 0) {
        EXPECT_EQ(size, place->size) << name << "." << member << " " << layout->describe(m.type);
      }
      compared++;
    }
    // Nothing is left out: presence of a member decides what is done.
    // A few members of hundreds, on purpose.
    static const std::set<std::string> kSelected{"_MI_SYSTEM_INFORMATION", "_MI_PARTITION",
                                                 "_MI_VISIBLE_PARTITION", "_CC_PARTITION"};
    if (kSelected.contains(std::string(name))) continue;
    for (const std::string& member : isf.members(name))
      EXPECT_TRUE(listed.contains(member)) << name << "." << member << " is missing from the facts";
  }
  EXPECT_GT(compared, 2000u) << "too few to be the facts";
}

// Whatever the build, the members without which there is no analysis.
TEST_P(FactsTest, RequiredMembersResolve) {
  const auto layout = builtin_layout(GetParam());
  ASSERT_TRUE(layout);
  struct Need {
    const char *type, *path;
    u32 size;
  };
  constexpr Need kNeeds[] = {{"_EPROCESS", "ActiveProcessLinks", 16},
                             {"_EPROCESS", "UniqueProcessId", 8},
                             {"_EPROCESS", "ImageFileName", 15},
                             {"_EPROCESS", "ThreadListHead", 16},
                             {"_EPROCESS", "ObjectTable", 8},
                             {"_EPROCESS", "Peb", 8},
                             {"_ETHREAD", "ThreadListEntry", 16},
                             {"_ETHREAD", "IrpList", 16},
                             {"_ETHREAD", "Cid", 16},
                             {"_KTHREAD", "State", 1},
                             {"_KTHREAD", "WaitReason", 1},
                             {"_KTHREAD", "WaitTime", 4},
                             {"_KTHREAD", "WaitBlockList", 8},
                             {"_KTHREAD", "KernelStack", 8},
                             {"_KTHREAD", "StackBase", 8},
                             {"_KTHREAD", "Teb", 8},
                             {"_KTHREAD", "Process", 8},
                             {"_KWAIT_BLOCK", "Object", 8},
                             {"_KWAIT_BLOCK", "Thread", 8},
                             {"_ERESOURCE", "SystemResourcesList", 16},
                             {"_ERESOURCE", "OwnerEntry", 16},
                             {"_ERESOURCE", "ActiveCount", 2},
                             {"_ERESOURCE", "NumberOfSharedWaiters", 4},
                             {"_IRP", "CurrentLocation", 1},
                             {"_IRP", "ThreadListEntry", 16},
                             {"_FILE_OBJECT", "FileName", 16},
                             {"_KPRCB", "CurrentThread", 8},
                             {"_DISPATCHER_HEADER", "WaitListHead", 16}};
  for (const Need& n : kNeeds) {
    // Some structures of 26100 are known in part.
    const auto t = layout->find_type(n.type);
    if (t && t->partial && !layout->field(n.type, n.path)) continue;
    const auto f = layout->field(n.type, n.path);
    ASSERT_TRUE(f.has_value()) << n.type << "." << n.path;
    if (f->size != 0) {
      EXPECT_EQ(f->size, n.size) << n.type << "." << n.path;
    }
    EXPECT_LE(f->offset + f->size, t->size) << n.type << "." << n.path;
  }
}

// Every line that the program has for a member: where it resolves, its size is what the code expects.
TEST_P(FactsTest, MemberLinesFit) {
  const auto layout = builtin_layout(GetParam());
  ASSERT_TRUE(layout);
  size_t resolved = 0;
  for (const nt::MemberLine* line : nt::MemberLine::all()) {
    std::vector<const char*> paths{line->path()};
    for (const char* older : line->older())
      if (older != nullptr) paths.push_back(older);
    for (const char* path : paths) {
      const auto f = layout->field(line->type(), path);
      if (!f) continue;
      resolved++;
      if (f->size != 0 && line->size() != 0 && f->bit_length == 0) {
        EXPECT_EQ(f->size, line->size()) << line->type() << "." << path;
      }
      break;
    }
  }
  EXPECT_GT(resolved, nt::MemberLine::all().size() / 3);
}

// No line is for a member that no build has: a misspelt name would otherwise only ever be "unknown".
TEST(Facts, EveryMemberLineIsKnownSomewhere) {
  // Names of patch levels that are not built in; their offsets are those of the other name.
  const std::set<std::string> patched{"_KPROCESS.KernelTimeLow", "_KPROCESS.UserTimeLow"};
  for (const nt::MemberLine* line : nt::MemberLine::all()) {
    bool known = false;
    for (const auto& layout : builtin_layouts())
      known |= layout->field(line->type(), line->path()).has_value();
    EXPECT_TRUE(known) << line->type() << "." << line->path();
    for (const char* older : line->older()) {
      if (older == nullptr) continue;
      bool older_known = patched.contains(fmt::format("{}.{}", line->type(), older));
      for (const auto& layout : builtin_layouts())
        older_known |= layout->field(line->type(), older).has_value();
      EXPECT_TRUE(older_known) << line->type() << "." << older << " (older name)";
    }
  }
}

TEST(Facts, Builds) {
  ASSERT_EQ(builtin_layouts().size(), 12u);
  EXPECT_EQ(builtin_layouts().front()->build(), "6.1.7601.24540");
  EXPECT_EQ(builtin_layouts().back()->build(), "10.0.26100");
  EXPECT_EQ(builtin_layout("10.0.1"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Builds, FactsTest, testing::ValuesIn(synth::build_names()), [](const auto& i) {
  std::string s = i.param;
  std::replace(s.begin(), s.end(), '.', '_');
  return s;
});

}  // namespace
}  // namespace unhang::symbols
