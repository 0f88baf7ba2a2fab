#include "report/text.h"

#include "shapes.plugs.h"

namespace unhang::report {

std::string scalar_text(const Node& node) {
  return node.visit([](const auto& v) -> std::string {
    using T = std::decay_t<decltype(v)>;
    if constexpr (std::is_same_v<T, std::monostate>)
      return "-";
    else if constexpr (std::is_same_v<T, bool>)
      return v ? "yes" : "no";
    else if constexpr (std::is_same_v<T, Node::List> || std::is_same_v<T, Node::Map>)
      return "";
    else
      return fmt::format("{}", v);
  });
}

void Text::paragraph(std::string_view text, size_t width, size_t hang) {
  // Leading spaces of the text indent its first line.
  const size_t lead = std::min(text.find_first_not_of(' '), text.size());
  text.remove_prefix(lead);
  std::string line(lead, ' ');
  bool first = true;
  const auto flush = [&] {
    if (line.find_first_not_of(' ') == line.npos) return;
    raw(first ? line : std::string(hang, ' ') + line);
    first = false;
    line.clear();
  };
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    const size_t room =
        width > indent_ * 2 + (first ? 0 : hang) ? width - indent_ * 2 - (first ? 0 : hang) : 20;
    if (line.size() > lead && line.size() + 1 + word.size() > room) flush();
    if (!word.empty()) line += (line.empty() || line.back() == ' ' ? "" : " ") + std::string(word);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  flush();
}

void Text::print(const Node& node) {
  if (node.shape() != nullptr)
    for (const Shape* shape : kShapes)
      if (std::string_view(shape->name) == node.shape()) return shape->print(node, *this);
  tree(node);
}

void Text::tree(const Node& node) {
  if (node.is_list()) {
    for (const Node& item : node.items()) print(item);
    return;
  }
  if (!node.is_map()) return raw(scalar_text(node));
  for (const auto& [key, value] : node.members()) {
    if (!value.is_map() && !value.is_list()) {
      line("{:<24} {}", key, scalar_text(value));
      continue;
    }
    line("{}", key);
    indent(1);
    print(value);
    indent(-1);
  }
}

}  // namespace unhang::report
