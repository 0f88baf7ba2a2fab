// symbols check: a line a layout, and the members by name where they were asked for.
#include <algorithm>

#include "report/text.h"

namespace unhang::report {

namespace {

constexpr size_t kWidth = 110;

struct Group {
  std::string title, names;
};

void add(std::vector<Group>& groups, const std::string& title, std::string_view name) {
  auto it = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.title == title; });
  if (it == groups.end()) it = groups.insert(it, {title, ""});
  it->names += ' ';
  it->names += name;
}

std::string group_of(const Node& missing) {
  const std::string need = missing.get("required").as_bool() ? "required, " : "";
  if (!missing.get("from").is_null())
    return need + fmt::format("taken from {}", missing.get("from").as_text());
  if (missing.get("absent").as_bool()) return need + "not in it";
  return need + "known to nobody";
}

void print_members(const Node& layout, Text& out) {
  std::vector<Group> groups;
  for (const Node& m : layout.get("missing").items()) add(groups, group_of(m), m.get("member").as_text());
  out.blank();
  out.raw(
      out.bold(layout.get("file").is_null() ? layout.get("layout").as_text() : layout.get("file").as_text()));
  if (groups.empty()) out.raw("  it has every member");
  for (const Group& g : groups) out.paragraph(fmt::format("  {}:{}", g.title, g.names), kWidth, 4);
}

void print(const Node& n, Text& out) {
  size_t width = std::string_view("layout").size();
  for (const Node& l : n.get("layouts").items()) width = std::max(width, l.get("layout").as_text().size());
  out.raw(out.bold(fmt::format("{:<{}}  {:>8}  {:>9}  {:>12}  {:>7}  {:>16}", "layout", width, "resolved",
                               "not in it", "from another", "unknown", "required missing")));
  for (const Node& l : n.get("layouts").items())
    out.line("{:<{}}  {:>8}  {:>9}  {:>12}  {:>7}  {:>16}", l.get("layout").as_text(), width,
             l.get("resolved").as_u64(), l.get("absent").as_u64(), l.get("from_others").as_u64(),
             l.get("unknown").as_u64(),
             l.get("required_missing").as_u64() == 0 ? "none" : scalar_text(l.get("required_missing")));
  if (!n.get("by_name").as_bool()) return;
  for (const Node& l : n.get("layouts").items()) print_members(l, out);
}

}  // namespace

extern const Shape symbols_check_shape;
const Shape symbols_check_shape{.name = "symbols check", .print = print};

}  // namespace unhang::report
