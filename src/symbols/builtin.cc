#include "symbols/builtin.h"

#include <charconv>
#include <mutex>
#include <set>

#include "base/check.h"

// All files of facts/ one after the other, see src/CMakeLists.txt.
extern "C" const char unhang_facts_begin[];
extern "C" const char unhang_facts_end[];

namespace unhang::symbols {

namespace {

std::string_view facts() {
  return {unhang_facts_begin, static_cast<size_t>(unhang_facts_end - unhang_facts_begin)};
}

std::string_view next_line(std::string_view& text) {
  const auto end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return line;
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

std::string_view next_word(std::string_view& text, char separator = ' ') {
  const auto end = text.find(separator);
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return trim(word);
}

u32 number(std::string_view s, int base) {
  u32 v = 0;
  std::from_chars(s.data(), s.data() + s.size(), v, base);
  return v;
}

// "Uint4B", "[4] Ptr64 _KTHREAD", "enum _MODE": the notation of dt, read back.
u32 parse_ref(LayoutBuilder& b, std::string_view t) {
  if (t.starts_with("Ptr64 ")) return b.pointer_ref(parse_ref(b, t.substr(6)));
  if (t.starts_with("[")) {
    const auto end = t.find(']');
    return b.array_ref(parse_ref(b, t.substr(end + 2)), number(t.substr(1, end - 1), 10));
  }
  if (t.starts_with("enum ")) return b.named_ref(TypeKind::enumeration, t.substr(5));
  if (t.starts_with("_")) return b.named_ref(TypeKind::structure, t);
  if (t == "Void") return b.base_ref("void", 0, false);
  if (t == "Char") return b.base_ref("char", 1, true);
  if (t.starts_with("Float")) return b.base_ref(t, number(t.substr(5), 10), true, true);
  if (t.starts_with("Int")) return b.base_ref(t, number(t.substr(3), 10), true);
  if (t.starts_with("Uint")) return b.base_ref(t, number(t.substr(4), 10), false);
  return 0;  // "?": the source gave an offset only
}

// The column of a build in one structure's table; -1 when the build does not have it.
int column(std::string_view builds, std::string_view build, bool& partial) {
  for (int i = 0; !builds.empty(); i++) {
    std::string_view b = next_word(builds);
    partial = b.ends_with('*');
    if (partial) b.remove_suffix(1);
    if (b == build) return i;
  }
  return -1;
}

std::string_view nth(std::string_view words, int n) {
  std::string_view w;
  for (int i = 0; i <= n; i++) w = next_word(words);
  return w;
}

void add_row(LayoutBuilder& b, std::string_view line, int col, bool is_enum) {
  const std::string_view name = next_word(line, '|');
  std::string_view type = next_word(line, '|');
  const std::string_view cell = nth(trim(line), col);
  if (cell == "-" || cell.empty()) return;
  if (is_enum) {
    i64 value = 0;
    std::from_chars(cell.data(), cell.data() + cell.size(), value);
    b.add_enumerator(name, value);
    return;
  }
  u8 bit_offset = 0, bit_length = 0;
  if (const auto bits = type.find(" bits "); bits != type.npos) {
    std::string_view rest = type.substr(bits + 6);
    bit_offset = static_cast<u8>(number(next_word(rest), 10));
    bit_length = static_cast<u8>(number(rest, 10));
    type = type.substr(0, bits);
  }
  b.add_member(name, number(cell, 16), parse_ref(b, type), bit_offset, bit_length);
}

std::shared_ptr<const Layout> make(std::string_view build) {
  LayoutBuilder b;
  b.set_identity({.name = "ntkrnlmp.pdb"}, std::string(build), "built-in facts");
  std::string_view text = facts();
  int col = -1;
  bool is_enum = false;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    if (line.starts_with("type ") || line.starts_with("enum ")) {
      is_enum = line.starts_with("enum ");
      const std::string_view name = line.substr(5);
      bool partial = false;
      col = column(next_line(text).substr(7), build, partial);
      const std::string_view sizes = next_line(text).substr(5);
      if (col < 0) continue;
      const u32 size = number(nth(sizes, col), 16);
      if (is_enum)
        b.add_enum(name, size);
      else
        b.add_type(name, size, partial);
    } else if (col >= 0) {
      add_row(b, line, col, is_enum);
    }
  }
  auto layout = Layout::from_bytes(b.build(), std::string(build));
  UNHANG_CHECK(layout.has_value());
  return *layout;
}

}  // namespace

std::vector<std::string> builtin_builds() {
  std::set<std::vector<u32>> versions;
  std::string_view text = facts();
  while (!text.empty()) {
    std::string_view line = next_line(text);
    if (!line.starts_with("builds ")) continue;
    line.remove_prefix(7);
    while (!line.empty()) {
      std::string_view b = next_word(line);
      if (b.ends_with('*')) b.remove_suffix(1);
      std::vector<u32> parts;
      while (!b.empty()) parts.push_back(number(next_word(b, '.'), 10));
      versions.insert(parts);
    }
  }
  std::vector<std::string> out;
  for (const auto& v : versions) {
    std::string s;
    for (u32 part : v) s += (s.empty() ? "" : ".") + std::to_string(part);
    out.push_back(s);
  }
  return out;
}

std::shared_ptr<const Layout> builtin_layout(std::string_view build) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const Layout>, std::less<>> made;
  const std::lock_guard lock(mutex);
  if (const auto it = made.find(build); it != made.end()) return it->second;
  bool known = false;
  for (const std::string& b : builtin_builds()) known |= b == build;
  if (!known) return nullptr;
  return made.emplace(std::string(build), make(build)).first->second;
}

}  // namespace unhang::symbols
