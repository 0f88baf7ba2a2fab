// symbols check: which of the members that unhang asks for are not in the symbol table of a kernel, and who
// tells them instead.
#include <algorithm>
#include <filesystem>

#include "app/symbols/subcommands.h"
#include "base/format.h"
#include "nt/layouts.h"
#include "nt/member.h"
#include "symbols/builtin.h"
#include "symbols/store.h"

namespace unhang::app {

namespace {

using LayoutPtr = std::shared_ptr<const symbols::Layout>;

struct Checked {
  LayoutPtr layout;
  std::string where;  // the file; empty: built in
};

std::vector<const char*> names(const nt::MemberLine& line) {
  std::vector<const char*> out{line.path()};
  for (const char* older : line.older())
    if (older != nullptr) out.push_back(older);
  return out;
}

// At how many members two layouts agree.
size_t agreement(const symbols::Layout& a, const symbols::Layout& b) {
  size_t same = 0;
  for (const nt::MemberLine* line : nt::MemberLine::all())
    for (const char* path : names(*line)) {
      const auto in_a = a.field(line->type(), path), in_b = b.field(line->type(), path);
      if (in_a && in_b && in_a->offset == in_b->offset) same++;
    }
  return same;
}

// As a target with this table alone would have it: what the table lacks comes from the most alike layout.
nt::Layouts with_table(const LayoutPtr& table) {
  std::vector<std::pair<size_t, LayoutPtr>> ranked;
  for (const LayoutPtr& other : symbols::builtin_layouts())
    if (other != table) ranked.emplace_back(agreement(*table, *other), other);
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<LayoutPtr> others;
  for (auto& [same, other] : ranked) others.push_back(std::move(other));
  nt::Layouts layouts;
  layouts.set_exact(table, Confidence::exact);
  layouts.set_candidates(std::move(others), Confidence::guess, {});
  return layouts;
}

Node check(const Checked& checked) {
  const symbols::Layout& table = *checked.layout;
  const nt::Layouts layouts = with_table(checked.layout);
  Node n = Node::map();
  n["layout"] = table.build().empty() ? table.pdb().key() : table.build();
  n["file"] = checked.where.empty() ? Node() : Node(checked.where);
  n["origin"] = table.origin();
  u64 resolved = 0, elsewhere = 0, not_here = 0, unknown = 0, required = 0;
  n["missing"] = Node::list();
  for (const nt::MemberLine* line : nt::MemberLine::all()) {
    std::optional<nt::Resolved> found;
    for (const char* path : names(*line))
      if (const auto r = layouts.resolve(line->type(), path); r && !found) found = *r;
    if (found && found->layout == &table) {
      resolved++;
      continue;
    }
    Node m = Node::map();
    m["member"] = fmt::format("{}.{}", line->type(), line->path());
    m["required"] = line->required();
    m["from"] = found ? Node(found->layout->build()) : Node();
    // A table that has the whole type: the member is not in that Windows, or not in its public symbols.
    const auto type = table.find_type(line->type());
    m["absent"] = !found && type && !type->partial;
    (found ? elsewhere : m.get("absent").as_bool() ? not_here : unknown)++;
    if (!found && line->required()) required++;
    n["missing"].add(std::move(m));
  }
  n["resolved"] = resolved;
  n["from_others"] = elsewhere;
  n["absent"] = not_here;
  n["unknown"] = unknown;
  n["required_missing"] = required;
  return n;
}

bool is_kernel(const symbols::Layout& layout) {
  return layout.find_type("_EPROCESS").has_value();
}

// The built-in layouts, and those of kernels in the cache.
std::vector<Checked> at_hand() {
  namespace fs = std::filesystem;
  std::vector<Checked> all;
  for (const LayoutPtr& layout : symbols::builtin_layouts()) all.push_back({layout, ""});
  std::vector<std::string> files;
  std::error_code e;
  for (fs::directory_iterator it(symbols::Store::default_cache(), e), end; !e && it != end; it.increment(e))
    if (it->path().extension() == ".layout") files.push_back(it->path().string());
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) {
    const auto opened = File::open(file);
    if (!opened) continue;
    if (auto layout = symbols::Layout::open(*opened); layout && is_kernel(**layout))
      all.push_back({*layout, file});
  }
  return all;
}

}  // namespace

int symbols_check(const SymbolsOptions& o) {
  int status = kDone;
  std::vector<Checked> tables;
  symbols::Store store({}, "");
  for (const std::string& file : o.files) {
    const auto found = store.import(file);
    if (found && is_kernel(*found->layout)) {
      tables.push_back({found->layout, file});
      continue;
    }
    complain(
        fmt::format("{}: {}", file, found ? "not of a kernel: it has no _EPROCESS" : text(found.error())));
    status = kUserError;
  }
  if (o.files.empty()) tables = at_hand();
  if (tables.empty()) return status;
  Node n = Node::shaped("symbols check");
  n["layouts"] = Node::list();
  n["by_name"] = o.members || !o.files.empty();
  for (const Checked& table : tables) {
    Node layout = check(table);
    if (layout.get("required_missing").as_u64() != 0) status = kUserError;
    n["layouts"].add(std::move(layout));
  }
  const int printed = output(n, o.common);
  return printed != kDone ? printed : status;
}

}  // namespace unhang::app
