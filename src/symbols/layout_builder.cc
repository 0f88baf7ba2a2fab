// Writes layouts; layout.cc reads them.
#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "symbols/layout_format.h"

namespace unhang::symbols {

namespace {

struct Writer {
  std::vector<u8> bytes;
  template <class T>
  void put(const T& v) {
    const auto* p = reinterpret_cast<const u8*>(&v);
    bytes.insert(bytes.end(), p, p + sizeof v);
  }
  void align() { bytes.resize((bytes.size() + 7) & ~size_t{7}); }
};

}  // namespace

LayoutBuilder::LayoutBuilder() {
  strings_.push_back('\0');
  interned_.emplace("", 0);
  refs_.push_back(TypeRef{});  // number 0: unknown
}

void LayoutBuilder::set_identity(image::PdbId pdb, std::string build, std::string origin) {
  pdb_ = std::move(pdb);
  build_ = std::move(build);
  origin_ = std::move(origin);
}

u32 LayoutBuilder::intern(std::string_view text) {
  const auto [it, added] = interned_.try_emplace(std::string(text), static_cast<u32>(strings_.size()));
  if (added) {
    strings_ += text;
    strings_ += '\0';
  }
  return it->second;
}

u32 LayoutBuilder::ref(TypeRef r) {
  const std::array<u32, 5> key{static_cast<u32>(r.kind), r.name, r.inner, r.count, r.flags};
  const auto [it, added] = ref_numbers_.try_emplace(key, static_cast<u32>(refs_.size()));
  if (added) refs_.push_back(r);
  return it->second;
}

u32 LayoutBuilder::base_ref(std::string_view name, u32 size, bool is_signed, bool is_float) {
  return ref({.kind = TypeKind::base,
              .name = intern(name),
              .count = size,
              .flags = (is_signed ? TypeRef::kSigned : 0) | (is_float ? TypeRef::kFloat : 0)});
}
u32 LayoutBuilder::pointer_ref(u32 inner) {
  return ref({.kind = TypeKind::pointer, .inner = inner});
}
u32 LayoutBuilder::array_ref(u32 inner, u32 count) {
  return ref({.kind = TypeKind::array, .inner = inner, .count = count});
}
u32 LayoutBuilder::named_ref(TypeKind kind, std::string_view name) {
  return ref({.kind = kind, .name = intern(name)});
}

void LayoutBuilder::add_type(std::string_view name, u64 size, bool partial) {
  types_.push_back({.name = intern(name), .size = static_cast<u32>(size), .partial = partial});
}

void LayoutBuilder::add_member(std::string_view name, u32 offset, u32 ref, u8 bit_offset, u8 bit_length) {
  UNHANG_CHECK(!types_.empty());
  types_.back().members.push_back({intern(name), offset, ref, bit_offset, bit_length});
}

void LayoutBuilder::add_enum(std::string_view name, u64 size) {
  types_.push_back({.name = intern(name), .size = static_cast<u32>(size), .is_enum = true});
}

void LayoutBuilder::add_enumerator(std::string_view name, i64 value) {
  UNHANG_CHECK(!types_.empty());
  types_.back().enumerators.push_back({intern(name), value});
}

void LayoutBuilder::add_symbol(std::string_view name, Rva rva) {
  symbols_.emplace_back(static_cast<u32>(rva.value()), intern(name));
}

std::vector<u8> LayoutBuilder::build() {
  const u32 names[3] = {intern(pdb_.name), intern(build_), intern(origin_)};
  auto text = [&](u32 offset) { return std::string_view(strings_.c_str() + offset); };

  std::stable_sort(types_.begin(), types_.end(),
                   [&](const TypeRecord& a, const TypeRecord& b) { return text(a.name) < text(b.name); });
  // The same type may be described more than once (once a module); the first description stays.
  types_.erase(std::unique(types_.begin(), types_.end(),
                           [](const TypeRecord& a, const TypeRecord& b) { return a.name == b.name; }),
               types_.end());
  std::stable_sort(symbols_.begin(), symbols_.end(), [](auto& a, auto& b) { return a.first < b.first; });
  std::vector<u32> by_name(symbols_.size());
  std::iota(by_name.begin(), by_name.end(), 0u);
  std::stable_sort(by_name.begin(), by_name.end(),
                   [&](u32 a, u32 b) { return text(symbols_[a].second) < text(symbols_[b].second); });

  Writer w;
  w.bytes.resize(sizeof(FileHeader));
  FileHeader header{.magic = kMagic,
                    .guid = pdb_.guid,
                    .age = pdb_.age,
                    .pdb_name = names[0],
                    .build = names[1],
                    .origin = names[2],
                    .size = 0,
                    .tables = {}};
  size_t table = 0;
  auto begin = [&](u64 count) {
    w.align();
    header.tables[table++] = {w.bytes.size(), count};
  };

  begin(types_.size());
  u32 members = 0, enumerators = 0;
  for (TypeRecord& t : types_) {
    const u32 count = static_cast<u32>(t.is_enum ? t.enumerators.size() : t.members.size());
    u32& next = t.is_enum ? enumerators : members;
    w.put(FileType{t.name, t.size, next, count, (t.is_enum ? kIsEnum : 0) | (t.partial ? kPartial : 0)});
    next += count;
  }
  begin(members);
  for (TypeRecord& t : types_) {
    std::stable_sort(t.members.begin(), t.members.end(), [](const MemberRecord& a, const MemberRecord& b) {
      return std::pair(a.offset, a.bit_offset) < std::pair(b.offset, b.bit_offset);
    });
    if (t.is_enum) continue;
    for (const MemberRecord& m : t.members)
      w.put(FileMember{m.name, m.offset, m.ref, m.bit_offset, m.bit_length, 0});
  }
  begin(enumerators);
  for (const TypeRecord& t : types_) {
    if (!t.is_enum) continue;
    for (const EnumeratorRecord& e : t.enumerators) w.put(FileEnumerator{e.value, e.name, 0});
  }
  begin(refs_.size());
  for (const TypeRef& r : refs_) w.put(r);
  begin(symbols_.size());
  for (const auto& [rva, name] : symbols_) w.put(FileSymbol{rva, name});
  begin(by_name.size());
  for (u32 i : by_name) w.put(i);
  begin(strings_.size());
  w.bytes.insert(w.bytes.end(), strings_.begin(), strings_.end());
  UNHANG_CHECK(table == kTables);

  header.size = w.bytes.size();
  std::memcpy(w.bytes.data(), &header, sizeof header);
  return std::move(w.bytes);
}

}  // namespace unhang::symbols
