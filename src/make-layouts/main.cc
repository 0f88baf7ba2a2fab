// make-layouts OUT FACTS...: runs while unhang is built. Reads the tables in symbols/facts/ and writes the
// layout of each build that has a column in them, one after the other, oldest build first, each at a multiple
// of 8 bytes.
#include <charconv>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>

#include "symbols/layout.h"

namespace unhang::symbols {

namespace {

using Version = std::vector<u32>;
using Builders = std::map<Version, LayoutBuilder>;

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

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) out.push_back(next_word(text));
  return out;
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

// A column of one structure's table.
struct Column {
  LayoutBuilder* builder;
  bool partial;  // the build's source does not know all members
};

std::vector<Column> columns(Builders& builders, std::string_view builds) {
  std::vector<Column> out;
  for (std::string_view b : words(builds)) {
    const bool partial = b.ends_with('*');
    if (partial) b.remove_suffix(1);
    Version version;
    for (std::string_view rest = b; !rest.empty();) version.push_back(number(next_word(rest, '.'), 10));
    const auto [it, added] = builders.try_emplace(version);
    if (added) it->second.set_identity({.name = "ntkrnlmp.pdb"}, std::string(b), "built-in facts");
    out.push_back({&it->second, partial});
  }
  return out;
}

void add_row(LayoutBuilder& b, std::string_view name, std::string_view type, std::string_view cell,
             bool is_enum) {
  if (cell == "-") return;
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

void read(Builders& builders, std::string_view text) {
  std::vector<Column> table;
  bool is_enum = false;
  while (!text.empty()) {
    std::string_view line = next_line(text);
    if (line.starts_with("type ") || line.starts_with("enum ")) {
      is_enum = line.starts_with("enum ");
      const std::string_view name = line.substr(5);
      table = columns(builders, next_line(text).substr(7));
      const auto sizes = words(next_line(text).substr(5));
      for (size_t i = 0; i < table.size(); i++) {
        const u32 size = number(sizes.at(i), 16);
        if (is_enum)
          table[i].builder->add_enum(name, size);
        else
          table[i].builder->add_type(name, size, table[i].partial);
      }
    } else {
      const std::string_view name = next_word(line, '|'), type = next_word(line, '|');
      const auto cells = words(trim(line));
      for (size_t i = 0; i < table.size(); i++) add_row(*table[i].builder, name, type, cells.at(i), is_enum);
    }
  }
}

}  // namespace

}  // namespace unhang::symbols

int main(int argc, char** argv) {
  unhang::symbols::Builders builders;
  for (int i = 2; i < argc; i++) {
    std::ifstream in(argv[i], std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    if (!in) {
      std::cerr << argv[i] << ": cannot be read\n";
      return 1;
    }
    unhang::symbols::read(builders, text.str());
  }
  std::ofstream out(argv[1], std::ios::binary);
  for (auto& [version, builder] : builders) {
    auto bytes = builder.build();
    bytes.resize((bytes.size() + 7) & ~size_t{7});
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  return out.flush() ? 0 : 1;
}
