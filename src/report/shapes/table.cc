// A table: "columns" names the members of each of "rows" and their heads; text is padded to the widest cell.
#include <algorithm>

#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  const auto& columns = n.get("columns").items();
  std::vector<size_t> widths;
  for (const Node& c : columns) widths.push_back(c.get("title").as_text().size());
  std::vector<std::vector<std::string>> cells;
  for (const Node& row : n.get("rows").items()) {
    std::vector<std::string> line;
    for (size_t i = 0; i < columns.size(); i++) {
      line.push_back(scalar_text(row.get(columns[i].get("member").as_text())));
      widths[i] = std::max(widths[i], line.back().size());
    }
    cells.push_back(std::move(line));
  }
  const auto print_line = [&](const std::vector<std::string>& line, bool head) {
    std::string s;
    for (size_t i = 0; i < line.size(); i++)
      s += i + 1 == line.size() ? line[i] : fmt::format("{:<{}}  ", line[i], widths[i]);
    out.raw(head ? out.bold(s) : s);
  };
  if (const Node* title = n.find("title")) out.raw(title->as_text());
  std::vector<std::string> heads;
  for (const Node& c : columns) heads.emplace_back(c.get("title").as_text());
  print_line(heads, true);
  for (const auto& line : cells) print_line(line, false);
  if (const Node* note = n.find("note")) out.raw(note->as_text());
}

}  // namespace

extern const Shape table_shape;
const Shape table_shape{.name = "table", .print = print};

}  // namespace unhang::report
