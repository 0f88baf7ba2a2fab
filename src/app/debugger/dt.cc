// dt type [address]: a type, or an object read by it.
#include <algorithm>

#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "app/wildcard.h"
#include "base/format.h"
#include "memory/read.h"

namespace unhang::app {

namespace {

// Structures that dt shows the contents of in one line, as WinDbg does. Empty: another structure, or not
// readable.
std::string structure_value(const Session& session, const std::string& type, u64 size, VirtAddr at,
                            Node& out) {
  const auto& space = session.space(at);
  if (type == "_LIST_ENTRY") {
    const auto links = memory::read<nt::ListEntry>(space, at);
    if (!links) return {};
    out["value"] = Node::list();
    out["value"].add(links->flink);
    out["value"].add(links->blink);
    return fmt::format("_LIST_ENTRY [ {} - {} ]", hex(links->flink), hex(links->blink));
  }
  if (type == "_UNICODE_STRING") {
    const auto string = memory::read<nt::UnicodeString>(space, at);
    if (!string) return {};
    const auto words = session.target().read_string(*string, session.space(string->buffer));
    out["value"] = words ? Node(*words) : Node();
    return words ? fmt::format("_UNICODE_STRING \"{}\"", *words) : "_UNICODE_STRING (not readable)";
  }
  if (type == "_LARGE_INTEGER" || type == "_ULARGE_INTEGER") {
    const auto v = memory::read<u64>(space, at);
    if (!v) return {};
    out["value"] = *v;
    return fmt::format("{} {:#x}", type, *v);
  }
  // Short arrays of bytes are mostly names.
  const bool bytes = type.starts_with('[') &&
                     (type.ends_with("] Uint1B") || type.ends_with("] UChar") || type.ends_with("] Char"));
  constexpr u64 kLongestName = 64;
  if (!bytes || size == 0 || size > kLongestName) return {};
  std::string name(size, '\0');
  if (!memory::read_exact(space, at, {reinterpret_cast<u8*>(name.data()), size})) return {};
  name.resize(std::min(name.find('\0'), name.size()));
  if (name.empty() || std::any_of(name.begin(), name.end(), [](char c) { return c < 0x20 || c > 0x7e; }))
    return {};
  out["value"] = name;
  return fmt::format("{} \"{}\"", type.substr(0, type.find(']') + 1), name);
}

// The value of a member as dt prints it behind its type.
std::string value(const Session& session, const symbols::Layout& layout, const symbols::Member& m,
                  VirtAddr at, Node& out) {
  const symbols::TypeRef ref = layout.ref(m.type);
  const u64 size = layout.size_of(m.type);
  const bool scalar = ref.kind == symbols::TypeKind::base || ref.kind == symbols::TypeKind::pointer ||
                      ref.kind == symbols::TypeKind::enumeration || (ref.kind == symbols::TypeKind::unknown);
  if (!scalar || size > 8) return structure_value(session, layout.describe(m.type), size, at, out);
  u64 v = 0;
  const u64 bytes = size == 0 ? 8 : size;
  if (const auto r = memory::read_exact(session.space(at), at, {reinterpret_cast<u8*>(&v), bytes}); !r) {
    out["error"] = text(r.error());
    return "????????";
  }
  if (m.bit_length != 0) {
    v = v >> m.bit_offset & (m.bit_length >= 64 ? ~u64{0} : (u64{1} << m.bit_length) - 1);
    out["value"] = v;
    return fmt::format("0y{:0{}b}", v, m.bit_length);
  }
  if (ref.kind == symbols::TypeKind::pointer) {
    out["value"] = VirtAddr(v);
    const std::string symbol = session.target().symbolize(VirtAddr(v));
    return v == 0           ? "(null)"
           : symbol.empty() ? fmt::format("{}", VirtAddr(v))
                            : fmt::format("{} {}", VirtAddr(v), symbol);
  }
  if (ref.kind == symbols::TypeKind::enumeration) {
    const auto word = layout.enumerator(layout.string(ref.name), static_cast<i64>(v));
    out["value"] = v;
    return word ? fmt::format("{} ( {} )", v, *word) : fmt::format("{}", v);
  }
  out["value"] = v;
  if (size == 1 && v >= 0x20 && v < 0x7f) return fmt::format("{:#x} '{}'", v, static_cast<char>(v));
  return (ref.flags & symbols::TypeRef::kSigned) != 0 && size == 4 ? fmt::format("{}", static_cast<i32>(v))
                                                                   : fmt::format("{:#x}", v);
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  std::vector<std::string> words;
  for (const std::string& a : args)
    if (!a.starts_with('-')) words.push_back(a);
  if (words.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs a type: nt!_ERESOURCE"});
  std::string type_name =
      words[0].substr(words[0].find('!') == std::string::npos ? 0 : words[0].find('!') + 1);
  const symbols::Layout* layout = session.target().layouts().layout_of(type_name);
  if (layout == nullptr && !type_name.starts_with('_'))
    layout = session.target().layouts().layout_of(type_name = "_" + type_name);
  // Types of another module's own symbols.
  if (layout == nullptr && words[0].find('!') != std::string::npos)
    if (const nt::Module* m = session.target().modules().find_name(words[0].substr(0, words[0].find('!'))))
      if (const nt::Module* opened = session.target().module_at(m->base());
          opened != nullptr && opened->symbols() != nullptr && opened->symbols()->find_type(type_name))
        layout = opened->symbols();
  if (layout == nullptr)
    return fail(Why::unsupported, "neither the symbols nor the built-in layouts have this type");
  const symbols::Type type = *layout->find_type(type_name);
  VirtAddr address{};
  bool has_address = false;
  std::string filter = "*";
  for (size_t i = 1; i < words.size(); i++) {
    if (const auto va = evaluate(session, words[i])) {
      address = *va;
      has_address = true;
    } else {
      filter = words[i];
    }
  }
  Node n = lines_node();
  n["type"] = type_name;
  n["size"] = type.size;
  n["from"] = layout->origin() + (layout->build().empty() ? "" : " " + layout->build());
  for (const symbols::Enumerator& e : layout->enumerators(type)) {
    Node line = Node::map();
    line["name"] = e.name;
    line["value"] = e.value;
    line["text"] = fmt::format("   {} = {:#x} ({})", e.name, static_cast<u64>(e.value), e.value);
    n["lines"].add(std::move(line));
  }
  for (const symbols::Member& m : layout->members(type)) {
    if (!wildcard_match(filter, m.name)) continue;
    Node line = Node::map();
    line["name"] = m.name;
    line["offset"] = m.offset;
    std::string t = layout->describe(m.type);
    if (m.bit_length != 0)
      t = fmt::format("Pos {}, {} Bit{}", m.bit_offset, m.bit_length, m.bit_length == 1 ? "" : "s");
    line["member_type"] = t;
    std::string s = fmt::format("   +0x{:03x} {:<24} : {}", m.offset, m.name, t);
    if (has_address)
      if (const std::string v = value(session, *layout, m, address + m.offset, line); !v.empty())
        s = fmt::format("   +0x{:03x} {:<24} : {}", m.offset, m.name, v);
    line["text"] = s;
    n["lines"].add(std::move(line));
  }
  if (layout != session.target().layouts().exact()) n["note"] = fmt::format("   ({})", n["from"].as_text());
  return n;
}

}  // namespace

extern const DebuggerCommand dt_debugger_command;
const DebuggerCommand dt_debugger_command{.names = {"dt"},
                                          .usage = "dt TYPE [ADDRESS] [MEMBER]",
                                          .help = "a type, or an object read by it",
                                          .run = run};

}  // namespace unhang::app
