#include "symbols/layout.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <numeric>

#include "base/format.h"
#include "symbols/layout_format.h"

namespace unhang::symbols {

namespace {
bool is_unnamed(std::string_view type) {
  return type.find("unnamed") != type.npos || type.find("anonymous") != type.npos;
}
}  // namespace

Result<std::shared_ptr<const Layout>> Layout::open(std::shared_ptr<const File> file) {
  std::shared_ptr<Layout> layout(new Layout);
  layout->file_ = std::move(file);
  layout->bytes_ = layout->file_->bytes();
  TRY_VOID(layout->parse());
  return layout;
}

Result<std::shared_ptr<const Layout>> Layout::from_bytes(std::vector<u8> bytes, std::string name) {
  return open(File::from_bytes(std::move(bytes), std::move(name)));
}

Result<void> Layout::parse() {
  auto bad = [](const char* detail) {
    return fail(Error{.why = Why::bad_file, .type = "layout file", .detail = detail});
  };
  const auto h = bytes_.le<FileHeader>(0);
  if (!h || h->magic != kMagic) return bad("not a layout file of this version");
  if (h->size != bytes_.size()) return bad("truncated");
  Table* tables[kTables] = {&types_, &members_, &enumerators_, &refs_, &symbols_, &by_name_, &strings_};
  for (size_t i = 0; i < kTables; i++) {
    *tables[i] = {h->tables[i][0], h->tables[i][1]};
    const auto bytes = checked_mul(tables[i]->count, kRecordSize[i]);
    if (!bytes || !bytes_.covers(tables[i]->offset, *bytes)) return bad("a table lies outside of the file");
  }
  if (by_name_.count != symbols_.count) return bad("its two symbol tables differ in size");
  if (strings_.count == 0 || bytes_.at<char>(strings_.offset + strings_.count - 1) != '\0')
    return bad("its strings do not end");
  std::copy(std::begin(h->guid), std::end(h->guid), pdb_.guid.begin());
  pdb_.age = h->age;
  pdb_.name = string(h->pdb_name);
  build_ = string(h->build);
  origin_ = string(h->origin);
  return {};
}

u32 Layout::build_number() const {
  u32 major = 0, minor = 0, number = 0;
  return std::sscanf(build_.c_str(), "%u.%u.%u", &major, &minor, &number) == 3 ? number : 0;
}

template <class T>
T Layout::record(const Table& table, u64 index) const {
  return index < table.count ? bytes_.at<T>(table.offset + index * sizeof(T)) : T{};
}

std::string_view Layout::string(u32 offset) const {
  if (offset >= strings_.count) return {};
  return bytes_.c_string(strings_.offset + offset, strings_.count - offset);
}

Type Layout::type(size_t index) const {
  const auto t = record<FileType>(types_, index);
  return Type{.index = static_cast<u32>(index),
              .name = string(t.name),
              .size = t.size,
              .is_enum = (t.flags & kIsEnum) != 0,
              .partial = (t.flags & kPartial) != 0,
              .first = t.first,
              .count = t.count};
}

std::optional<Type> Layout::find_type(std::string_view name) const {
  u64 low = 0, high = types_.count;
  while (low < high) {
    const u64 middle = low + (high - low) / 2;
    const Type t = type(middle);
    if (t.name == name) return t;
    if (t.name < name)
      low = middle + 1;
    else
      high = middle;
  }
  return std::nullopt;
}

std::vector<Member> Layout::members(const Type& type) const {
  std::vector<Member> out;
  if (type.is_enum) return out;
  const u64 count = std::min<u64>(type.count, members_.count);
  for (u64 i = 0; i < count; i++) {
    const auto m = record<FileMember>(members_, type.first + i);
    out.push_back({string(m.name), m.offset, m.ref, m.bit_offset, m.bit_length});
  }
  return out;
}

std::vector<Enumerator> Layout::enumerators(const Type& type) const {
  std::vector<Enumerator> out;
  if (!type.is_enum) return out;
  const u64 count = std::min<u64>(type.count, enumerators_.count);
  for (u64 i = 0; i < count; i++) {
    const auto e = record<FileEnumerator>(enumerators_, type.first + i);
    out.push_back({string(e.name), e.value});
  }
  return out;
}

std::optional<std::string_view> Layout::enumerator(std::string_view type_name, i64 value) const {
  const auto t = find_type(type_name);
  if (!t) return std::nullopt;
  for (const Enumerator& e : enumerators(*t))
    if (e.value == value) return e.name;
  return std::nullopt;
}

TypeRef Layout::ref(u32 number) const {
  return record<TypeRef>(refs_, number);
}

u64 Layout::size_of(u32 number) const {
  u64 times = 1;
  // Arrays of arrays nest; a damaged file may nest them in a circle.
  for (int depth = 0; depth < 16; depth++) {
    const TypeRef r = ref(number);
    switch (r.kind) {
      case TypeKind::base:
        return times * r.count;
      case TypeKind::pointer:
        return times * 8;
      case TypeKind::array:
        times = checked_mul(times, r.count).value_or(0);
        number = r.inner;
        continue;
      case TypeKind::structure:
      case TypeKind::enumeration: {
        const auto t = find_type(string(r.name));
        return t ? checked_mul(times, t->size).value_or(0) : 0;
      }
      case TypeKind::function:
      case TypeKind::unknown:
        return 0;
    }
  }
  return 0;
}

std::string Layout::describe(u32 number) const {
  std::string s;
  for (int depth = 0; depth < 16; depth++) {
    const TypeRef r = ref(number);
    switch (r.kind) {
      case TypeKind::base: {
        if (r.count == 0) return s + "Void";
        if ((r.flags & TypeRef::kFloat) != 0) return s + "Float";
        if (string(r.name) == "char" || string(r.name) == "CHAR") return s + "Char";
        return s + fmt::format("{}{}B", (r.flags & TypeRef::kSigned) != 0 ? "Int" : "Uint", r.count);
      }
      case TypeKind::pointer:
        s += "Ptr64 ";
        number = r.inner;
        continue;
      case TypeKind::array:
        s += fmt::format("[{}] ", r.count);
        number = r.inner;
        continue;
      case TypeKind::structure:
      case TypeKind::enumeration:
        return s + std::string(string(r.name));
      case TypeKind::function:
        return s + "Function";
      case TypeKind::unknown:
        return s + "?";
    }
  }
  return s + "?";
}

// The rest of a path behind a field that has been found: an array index and further members.
std::optional<Field> Layout::step(Field field, std::string_view rest, Search search) const {
  if (!rest.empty() && rest.front() == '[') {
    u32 index = 0;
    const auto end = rest.find(']');
    const auto [p, error] = std::from_chars(rest.data() + 1, rest.data() + std::min(end, rest.size()), index);
    if (end == rest.npos || error != std::errc() || p != rest.data() + end) return std::nullopt;
    const TypeRef r = ref(field.type);
    if (r.kind != TypeKind::array || index >= std::max(r.count, 1u)) return std::nullopt;
    field.size = static_cast<u32>(size_of(r.inner));
    field.offset += index * field.size;
    field.type = r.inner;
    rest.remove_prefix(end + 1);
    return step(field, rest, search);
  }
  if (rest.empty()) return field;
  if (rest.front() != '.') return std::nullopt;
  const TypeRef r = ref(field.type);
  if (r.kind != TypeKind::structure) return std::nullopt;
  const auto inner = find_type(string(r.name));
  if (!inner) return std::nullopt;
  auto found = member_field(*inner, rest.substr(1), search.deeper());
  if (found) found->offset += field.offset;
  return found;
}

std::optional<Field> Layout::member_field(const Type& type, std::string_view path, Search search) const {
  // Unnamed structures of a damaged file may contain themselves, each many times over.
  if (search.depth > 12 || *search.budget <= 0) return std::nullopt;
  const std::vector<Member> all = members(type);
  *search.budget -= static_cast<i64>(all.size()) + 1;
  // Built-in facts flatten unnamed structures into dotted names, so the longest name wins.
  const Member* best = nullptr;
  for (const Member& m : all) {
    if (!path.starts_with(m.name) || m.name.empty()) continue;
    const bool whole =
        path.size() == m.name.size() || path[m.name.size()] == '.' || path[m.name.size()] == '[';
    if (whole && (best == nullptr || m.name.size() > best->name.size())) best = &m;
  }
  if (best != nullptr) {
    const Field f{.offset = best->offset,
                  .size = static_cast<u32>(size_of(best->type)),
                  .type = best->type,
                  .bit_offset = best->bit_offset,
                  .bit_length = best->bit_length};
    if (auto found = step(f, path.substr(best->name.size()), search)) return found;
  }
  // Members of unnamed unions and structures count as members of what encloses them. PDBs name such types
  // "<unnamed-tag>", "__unnamed_1380" or "__anonymous_19e7" and the members "u", "s" or nothing that a reader
  // could rely on.
  for (const Member& m : all) {
    const TypeRef r = ref(m.type);
    if (r.kind != TypeKind::structure || !is_unnamed(string(r.name))) continue;
    const auto inner = find_type(string(r.name));
    if (!inner) continue;
    if (auto found = member_field(*inner, path, search.deeper())) {
      found->offset += m.offset;
      return found;
    }
  }
  return std::nullopt;
}

Result<Field> Layout::field(std::string_view type_name, std::string_view path) const {
  const auto t = find_type(type_name);
  if (!t || t->is_enum) return fail(Why::no_member, "the symbols do not have the type");
  i64 budget = 1 << 18;  // the kernel's largest structures have about a thousand members in all
  const auto f = member_field(*t, path, {.depth = 0, .budget = &budget});
  if (!f) return fail(Why::no_member, "the type does not have the member");
  return *f;
}

Symbol Layout::symbol(u64 index) const {
  const auto s = record<FileSymbol>(symbols_, index);
  return {string(s.name), Rva(s.rva)};
}

std::optional<Rva> Layout::find_symbol(std::string_view name) const {
  u64 low = 0, high = by_name_.count;
  while (low < high) {
    const u64 middle = low + (high - low) / 2;
    const Symbol s = symbol(record<u32>(by_name_, middle));
    if (s.name == name) return s.rva;
    if (s.name < name)
      low = middle + 1;
    else
      high = middle;
  }
  return std::nullopt;
}

// Number of symbols at or below an address.
u64 Layout::symbols_up_to(Rva rva) const {
  u64 low = 0, high = symbols_.count;
  while (low < high) {
    const u64 middle = low + (high - low) / 2;
    if (record<FileSymbol>(symbols_, middle).rva <= rva.value())
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

namespace {
// Which of two names of one address people know. Compiler-decorated names lose. Of plain ones the last in the
// alphabet is what debuggers have shown for decades (KxStartSystemThread rather than KiStartSystemThread),
// but a system call is known by its Nt name, not by its Zw name.
bool better_name(std::string_view a, std::string_view b) {
  const auto decorated = [](std::string_view n) { return n.starts_with('?') || n.starts_with('_'); };
  if (decorated(a) != decorated(b)) return !decorated(a);
  if (a.starts_with("Nt") && b.starts_with("Zw")) return true;
  if (a.starts_with("Zw") && b.starts_with("Nt")) return false;
  return a > b;
}
}  // namespace

std::optional<Symbol> Layout::symbol_at(Rva rva) const {
  u64 n = symbols_up_to(rva);
  if (n == 0) return std::nullopt;
  Symbol best = symbol(n - 1);
  for (; n > 1 && record<FileSymbol>(symbols_, n - 2).rva == best.rva.value(); n--)
    if (const Symbol other = symbol(n - 2); better_name(other.name, best.name)) best = other;
  return best;
}

std::optional<Symbol> Layout::symbol_after(Rva rva) const {
  const u64 n = symbols_up_to(rva);
  if (n >= symbols_.count) return std::nullopt;
  return symbol(n);
}

void Layout::for_each_symbol(const std::function<bool(const Symbol&)>& visit) const {
  for (u64 i = 0; i < symbols_.count; i++)
    if (!visit(symbol(i))) return;
}

}  // namespace unhang::symbols
