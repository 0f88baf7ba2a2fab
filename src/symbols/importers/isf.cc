// Volatility-3 ISF JSON ("intermediate symbol format"), plain or xz-packed: the widest public collection of
// Windows symbols that works offline. Format: volatility3/schemas/schema-6.2.0.json.
#include <simdjson.h>

#include "base/xz.h"
#include "symbols/importer.h"
#include "symbols/layout.h"

namespace unhang::symbols {

namespace {

namespace json = simdjson::dom;
constexpr u64 kMostBytes = u64{512} << 20;  // a kernel's ISF is about 20 MB

bool is_xz(const File& f) {
  return f.bytes().starts_with(
      {"\xfd"
       "7zXZ\0",
       6});
}

bool probe(const File& f) {
  if (is_xz(f)) return true;
  const std::string_view head = f.bytes().c_string(0, 64);
  const auto at = head.find_first_not_of(" \t\r\n");
  return at != head.npos && head[at] == '{';
}

std::unexpected<Error> bad(const char* detail) {
  return fail(Error{.why = Why::bad_file, .type = "ISF", .detail = detail});
}

std::string_view text(const json::element& e, std::string_view key) {
  std::string_view s;
  return e[key].get(s) == simdjson::SUCCESS ? s : std::string_view{};
}

u64 number(const json::element& e, std::string_view key) {
  u64 v = 0;
  return e[key].get(v) == simdjson::SUCCESS ? v : 0;
}

struct Base {
  u32 size;
  bool is_signed, is_float;
};

class Reader {
 public:
  explicit Reader(const json::element& root) : root_(root) {}

  Result<std::vector<u8>> read() {
    json::object types, bases;
    if (root_["user_types"].get(types) != simdjson::SUCCESS) return bad("it has no user_types");
    TRY_VOID(identify());
    if (root_["base_types"].get(bases) == simdjson::SUCCESS)
      for (const auto& [name, b] : bases)
        bases_[name] = {static_cast<u32>(number(b, "size")), signed_of(b), text(b, "kind") == "float"};
    for (const auto& [name, t] : types) {
      builder_.add_type(name, number(t, "size"));
      json::object fields;
      if (t["fields"].get(fields) != simdjson::SUCCESS) continue;
      for (const auto& [field, f] : fields) add_member(field, f);
    }
    add_enums();
    add_symbols();
    return builder_.build();
  }

 private:
  static bool signed_of(const json::element& e) {
    bool s = false;
    return e["signed"].get(s) == simdjson::SUCCESS && s;
  }

  Result<void> identify() {
    image::PdbId id;
    json::element pdb;
    if (root_["metadata"]["windows"]["pdb"].get(pdb) != simdjson::SUCCESS)
      return bad("its metadata names no PDB: not Windows symbols");
    id.name = text(pdb, "database");
    id.age = static_cast<u32>(number(pdb, "age"));
    if (!image::PdbId::parse_guid(text(pdb, "GUID"), id.guid)) return bad("its PDB GUID is malformed");
    builder_.set_identity(id, "", "ISF");
    return {};
  }

  void add_member(std::string_view name, const json::element& f) {
    json::element t;
    if (f["type"].get(t) != simdjson::SUCCESS) return;
    u8 bit_offset = 0, bit_length = 0;
    if (text(t, "kind") == "bitfield") {
      bit_offset = static_cast<u8>(number(t, "bit_position"));
      bit_length = static_cast<u8>(number(t, "bit_length"));
      json::element inner;
      if (t["type"].get(inner) != simdjson::SUCCESS) return;
      t = inner;
    }
    builder_.add_member(name, static_cast<u32>(number(f, "offset")), ref(t, 0), bit_offset, bit_length);
  }

  u32 ref(const json::element& t, int depth) {
    if (depth > 16) return 0;
    const std::string_view kind = text(t, "kind"), name = text(t, "name");
    json::element inner;
    const bool has_inner = t["subtype"].get(inner) == simdjson::SUCCESS;
    if (kind == "base") {
      const auto it = bases_.find(name);
      if (it == bases_.end() || name == "void") return builder_.base_ref("void", 0, false);
      return builder_.base_ref(name, it->second.size, it->second.is_signed, it->second.is_float);
    }
    if (kind == "pointer") return builder_.pointer_ref(has_inner ? ref(inner, depth + 1) : 0);
    if (kind == "array")
      return builder_.array_ref(has_inner ? ref(inner, depth + 1) : 0, static_cast<u32>(number(t, "count")));
    if (kind == "struct" || kind == "union" || kind == "class")
      return builder_.named_ref(TypeKind::structure, name);
    if (kind == "enum") return builder_.named_ref(TypeKind::enumeration, name);
    if (kind == "function") return builder_.ref({.kind = TypeKind::function});
    return 0;
  }

  void add_enums() {
    json::object enums;
    if (root_["enums"].get(enums) != simdjson::SUCCESS) return;
    for (const auto& [name, e] : enums) {
      builder_.add_enum(name, number(e, "size"));
      json::object constants;
      if (e["constants"].get(constants) != simdjson::SUCCESS) continue;
      for (const auto& [constant, value] : constants) {
        i64 v = 0;
        if (value.get(v) == simdjson::SUCCESS) builder_.add_enumerator(constant, v);
      }
    }
  }

  void add_symbols() {
    json::object symbols;
    if (root_["symbols"].get(symbols) != simdjson::SUCCESS) return;
    for (const auto& [name, s] : symbols) {
      // "??_C@...": the compiler's names for string constants, a third of all symbols and of no use here.
      if (name.starts_with("??_C@")) continue;
      const u64 address = number(s, "address");
      if (address != 0 && address < (u64{1} << 32)) builder_.add_symbol(name, Rva(address));
    }
  }

  json::element root_;
  LayoutBuilder builder_;
  std::map<std::string_view, Base> bases_;
};

Result<std::vector<u8>> import(std::shared_ptr<const File> file) {
  std::vector<u8> unpacked;
  ByteView b = file->bytes();
  if (is_xz(*file)) {
    unpacked = TRY(unpack_xz(b, kMostBytes));
    b = ByteView(unpacked.data(), unpacked.size());
  }
  if (b.size() > kMostBytes) return fail(Error{.why = Why::limit, .type = "ISF", .detail = "too large"});
  json::parser parser;
  json::element root;
  // The parser wants room behind the text, so it copies; what is invalid UTF-8 or JSON is its error.
  if (parser.parse(reinterpret_cast<const char*>(b.data()), b.size()).get(root) != simdjson::SUCCESS)
    return bad("not valid JSON");
  return Reader(root).read();
}

}  // namespace

extern const Importer isf_importer;
const Importer isf_importer{.name = "ISF", .probe = probe, .import = import};

}  // namespace unhang::symbols
