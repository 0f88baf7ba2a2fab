// Text rendering of answer trees. A map may name a shape, which prints it as people know it from WinDbg;
// other nodes are printed as an indented tree.
#pragma once

#include <string>
#include <string_view>

#include "base/format.h"
#include "base/node.h"

namespace unhang::report {

// Collects lines; knows about colour and nothing of where the text goes.
class Text {
 public:
  explicit Text(bool colour) : colour_(colour) {}

  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    out_.append(indent_ * 2, ' ');
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }
  // A line that is printed as it is.
  void raw(std::string_view line) {
    out_.append(indent_ * 2, ' ');
    out_ += line;
    out_ += '\n';
  }
  void blank() { out_ += '\n'; }
  // Running text, broken at a width, later lines indented by `hang`.
  void paragraph(std::string_view text, size_t width, size_t hang);
  void indent(int by) { indent_ += by; }

  std::string bold(std::string_view s) const { return paint(s, "1"); }
  std::string red(std::string_view s) const { return paint(s, "1;31"); }
  std::string green(std::string_view s) const { return paint(s, "1;32"); }
  std::string yellow(std::string_view s) const { return paint(s, "33"); }
  std::string faint(std::string_view s) const { return paint(s, "2"); }

  // Prints a node by its shape, or as a tree.
  void print(const Node& node);

  const std::string& str() const { return out_; }

 private:
  std::string paint(std::string_view s, const char* code) const {
    return colour_ ? fmt::format("\033[{}m{}\033[0m", code, s) : std::string(s);
  }
  void tree(const Node& node);

  bool colour_;
  size_t indent_ = 0;
  std::string out_;
};

// How a scalar looks in text: addresses as WinDbg prints them, null as "-".
std::string scalar_text(const Node& node);

// A shape: how a map of one kind looks as text. One file each under shapes/.
struct Shape {
  const char* name;
  void (*print)(const Node& node, Text& out);
};

}  // namespace unhang::report
