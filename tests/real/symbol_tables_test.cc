// Every symbol table beside the project: what the program asks for resolves in it as in the built-in layout
// of the same build, and what a table lacks is known.
#include <fstream>
#include <regex>

#include "base/format.h"
#include "nt/member.h"
#include "real/real_data.h"
#include "symbols/builtin.h"
#include "symbols/importer.h"
#include "symbols/layout.h"

namespace unhang::real {
namespace {

namespace fs = std::filesystem;

struct Table {
  std::string build, file;
};

// "ntkrnlmp-10.0.19041.804-GUID-1.json.xz".
std::vector<Table> tables() {
  std::vector<Table> out;
  std::error_code e;
  for (const auto& entry : fs::directory_iterator(data() / "symbols", e)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("ntkrnlmp-") || !name.ends_with(".json.xz")) continue;
    out.push_back({name.substr(9, name.find('-', 9) - 9), entry.path().string()});
  }
  return out;
}

std::optional<symbols::Field> resolve(const symbols::Layout& layout, const nt::MemberLine& line) {
  std::vector<const char*> paths{line.path()};
  paths.insert(paths.end(), line.older().begin(), line.older().end());
  for (const char* path : paths)
    if (path != nullptr)
      if (const auto f = layout.field(line.type(), path)) return *f;
  return std::nullopt;
}

TEST(SymbolTables, MembersResolve) {
  const auto all = tables();
  UNHANG_NEEDS(data() / "symbols");
  EXPECT_GE(all.size(), 8u);
  for (const Table& t : all) {
    SCOPED_TRACE(t.build);
    const auto file = File::open(t.file);
    ASSERT_TRUE(file.has_value());
    const auto bytes = symbols::import_symbols(*file);
    ASSERT_TRUE(bytes.has_value()) << text(bytes.error());
    const auto layout = symbols::Layout::from_bytes(*bytes, t.file);
    ASSERT_TRUE(layout.has_value());
    const auto builtin = symbols::builtin_layout(t.build);
    EXPECT_NE(builtin, nullptr) << "no built-in layout was made of it";
    size_t resolved = 0;
    std::string missing;
    for (const nt::MemberLine* line : nt::MemberLine::all()) {
      const std::string name = fmt::format("{}.{}", line->type(), line->path());
      const auto f = resolve(**layout, *line);
      if (!f) {
        EXPECT_FALSE(line->required()) << name;
        missing += " " + name;
        if (builtin) {
          EXPECT_FALSE(resolve(*builtin, *line)) << name << " is in the facts alone";
        }
        continue;
      }
      resolved++;
      if (f->bit_length == 0 && line->size() != 0 && f->size != 0) {
        EXPECT_EQ(f->size, line->size()) << name;
      }
      if (!builtin) continue;
      const auto b = resolve(*builtin, *line);
      ASSERT_TRUE(b.has_value()) << name << " is missing from the facts";
      EXPECT_EQ(b->offset, f->offset) << name;
    }
    std::printf("%s: %zu resolve, missing:%s\n", t.build.c_str(), resolved, missing.c_str());
  }
}

// A misspelt name of the kernel's data would only ever be "not there": KiBugCheckData was asked for as
// KiBugcheckData, and converted dumps did not say why Windows had stopped.
TEST(SymbolTables, KernelDataIsSpeltAsItsSymbols) {
  UNHANG_NEEDS(data() / "symbols");
  std::vector<std::shared_ptr<const symbols::Layout>> layouts;
  for (const Table& t : tables()) {
    const auto file = File::open(t.file);
    const auto bytes = file ? symbols::import_symbols(*file) : fail(file.error());
    ASSERT_TRUE(bytes.has_value()) << text(bytes.error());
    const auto layout = symbols::Layout::from_bytes(*bytes, t.file);
    ASSERT_TRUE(layout.has_value());
    layouts.push_back(*layout);
  }
  const std::regex asks(R"re((?:symbol|pointer_at)\("(\w+)"\))re");
  size_t names = 0;
  for (const auto& entry : fs::recursive_directory_iterator(UNHANG_SOURCE_DIR "/src")) {
    if (entry.path().extension() != ".cc") continue;
    std::ifstream in(entry.path());
    const std::string source{std::istreambuf_iterator<char>(in), {}};
    for (std::sregex_iterator it(source.begin(), source.end(), asks), end; it != end; ++it, names++) {
      const std::string name = (*it)[1];
      EXPECT_TRUE(std::any_of(layouts.begin(), layouts.end(),
                              [&](const auto& l) { return l->find_symbol(name).has_value(); }))
          << entry.path() << ": " << name;
    }
  }
  EXPECT_GT(names, 20u);
}

}  // namespace
}  // namespace unhang::real
