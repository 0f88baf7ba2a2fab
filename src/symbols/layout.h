// A layout: the types and symbols of one build of one module, in a compact file that is mapped, not parsed.
// Importers (ISF JSON, PDB) and the built-in facts all produce this one form; everything else reads it.
//
// The file is a header, tables of fixed-size records sorted for binary search, and a string table. A layout
// file may be damaged or hostile like any other: every index and offset is checked where it is used.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "image/pdb_id.h"

namespace unhang::symbols {

enum class TypeKind : u32 { unknown, base, pointer, array, structure, enumeration, function };

// What a member is. Interned: the same description has the same number in a layout.
struct TypeRef {
  TypeKind kind = TypeKind::unknown;
  u32 name = 0;   // string: of a base type, structure or enumeration
  u32 inner = 0;  // TypeRef: what a pointer points to, what an array consists of
  u32 count = 0;  // elements of an array; for a base type its size
  u32 flags = 0;  // base types: kSigned, kFloat
  static constexpr u32 kSigned = 1, kFloat = 2;
};

struct Member {
  std::string_view name;
  u32 offset = 0;
  u32 type = 0;       // number of a TypeRef
  u8 bit_offset = 0;  // of a bit-field within its storage
  u8 bit_length = 0;  // 0: not a bit-field
};

struct Enumerator {
  std::string_view name;
  i64 value = 0;
};

struct Type {
  u32 index = 0;
  std::string_view name;
  u64 size = 0;
  bool is_enum = false;
  // Only some members are known (facts copied by hand): a member that is not listed may exist all the same.
  bool partial = false;
  u32 first = 0, count = 0;
};

// Where a member path leads.
struct Field {
  u32 offset = 0;
  u32 size = 0;  // 0: unknown
  u32 type = 0;
  u8 bit_offset = 0;
  u8 bit_length = 0;
};

struct Symbol {
  std::string_view name;
  Rva rva{};
};

class Layout {
 public:
  // Errors: bad_file (not a layout, another version, damaged).
  static Result<std::shared_ptr<const Layout>> open(std::shared_ptr<const File> file);
  static Result<std::shared_ptr<const Layout>> from_bytes(std::vector<u8> bytes, std::string name);

  const image::PdbId& pdb() const { return pdb_; }
  // "10.0.19041.804" for built-in facts, else what the importer read.
  const std::string& build() const { return build_; }
  u32 build_number() const;  // 19041 of "10.0.19041.804"; 0 when it is not known
  // How it came to be: "PDB", "ISF", "built-in facts".
  const std::string& origin() const { return origin_; }

  std::optional<Type> find_type(std::string_view name) const;
  size_t type_count() const { return types_.count; }
  Type type(size_t index) const;
  // Members in the order of their offsets.
  std::vector<Member> members(const Type& type) const;
  std::vector<Enumerator> enumerators(const Type& type) const;
  std::optional<std::string_view> enumerator(std::string_view type, i64 value) const;

  TypeRef ref(u32 number) const;
  u64 size_of(u32 ref) const;
  // As dt prints it: "Ptr64 _KTHREAD", "[4] _KWAIT_BLOCK", "Uint4B".
  std::string describe(u32 ref) const;
  std::string_view string(u32 offset) const;

  // A dotted path through structures: "OwnerEntry.OwnerThread", "WaitBlock[2].Object". Unnamed unions need
  // not be named. Errors: no_member (type or member unknown).
  Result<Field> field(std::string_view type, std::string_view path) const;

  std::optional<Rva> find_symbol(std::string_view name) const;
  // The symbol at or below an address, and the one after it.
  std::optional<Symbol> symbol_at(Rva rva) const;
  std::optional<Symbol> symbol_after(Rva rva) const;
  size_t symbol_count() const { return symbols_.count; }
  // Every symbol, by address; stops when the visitor returns false.
  void for_each_symbol(const std::function<bool(const Symbol&)>& visit) const;

 private:
  struct Table {
    u64 offset = 0;
    u64 count = 0;
  };
  Layout() = default;
  Result<void> parse();
  template <class T>
  T record(const Table& table, u64 index) const;
  Symbol symbol(u64 index) const;
  u64 symbols_up_to(Rva rva) const;
  // Looking a path up; budget: members that may still be looked at.
  struct Search {
    int depth = 0;
    i64* budget = nullptr;
    Search deeper() const { return {depth + 1, budget}; }
  };
  std::optional<Field> member_field(const Type& type, std::string_view path, Search search) const;
  std::optional<Field> step(Field field, std::string_view rest, Search search) const;

  std::shared_ptr<const File> file_;
  ByteView bytes_;
  image::PdbId pdb_;
  std::string build_, origin_;
  Table types_, members_, enumerators_, refs_, symbols_, by_name_, strings_;
};

// Collects types and symbols in any order and writes a layout.
class LayoutBuilder {
 public:
  LayoutBuilder();
  void set_identity(image::PdbId pdb, std::string build, std::string origin);

  u32 ref(TypeRef ref);
  u32 base_ref(std::string_view name, u32 size, bool is_signed, bool is_float = false);
  u32 pointer_ref(u32 inner);
  u32 array_ref(u32 inner, u32 count);
  u32 named_ref(TypeKind kind, std::string_view name);
  u32 intern(std::string_view text);

  void add_type(std::string_view name, u64 size, bool partial = false);
  // To the type added last.
  void add_member(std::string_view name, u32 offset, u32 ref, u8 bit_offset = 0, u8 bit_length = 0);
  void add_enum(std::string_view name, u64 size);
  void add_enumerator(std::string_view name, i64 value);
  void add_symbol(std::string_view name, Rva rva);

  std::vector<u8> build();

 private:
  struct MemberRecord {
    u32 name, offset, ref;
    u8 bit_offset, bit_length;
  };
  struct EnumeratorRecord {
    u32 name;
    i64 value;
  };
  struct TypeRecord {
    u32 name = 0;
    u32 size = 0;
    bool is_enum = false, partial = false;
    std::vector<MemberRecord> members;
    std::vector<EnumeratorRecord> enumerators;
  };
  image::PdbId pdb_;
  std::string build_, origin_;
  std::string strings_;
  std::unordered_map<std::string, u32> interned_;
  std::vector<TypeRef> refs_;
  std::map<std::array<u32, 5>, u32> ref_numbers_;
  std::vector<TypeRecord> types_;
  std::vector<std::pair<u32, u32>> symbols_;  // rva, name
};

}  // namespace unhang::symbols
