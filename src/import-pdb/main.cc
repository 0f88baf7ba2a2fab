// unhang-import-pdb: reads a PDB with LLVM's native reader and writes a layout file to standard output.
//
// A program of its own, so that the analyser neither links LLVM nor dies of a damaged PDB: whatever happens
// here is one exit status there. Exit: 0 done, 2 not a usable PDB (one sentence on standard error).
#include <llvm/ADT/StringExtras.h>
#include <llvm/DebugInfo/CodeView/CVSymbolVisitor.h>
#include <llvm/DebugInfo/CodeView/CVTypeVisitor.h>
#include <llvm/DebugInfo/CodeView/LazyRandomTypeCollection.h>
#include <llvm/DebugInfo/CodeView/SymbolDeserializer.h>
#include <llvm/DebugInfo/CodeView/SymbolVisitorCallbacks.h>
#include <llvm/DebugInfo/CodeView/TypeDeserializer.h>
#include <llvm/DebugInfo/CodeView/TypeVisitorCallbacks.h>
#include <llvm/DebugInfo/MSF/MappedBlockStream.h>
#include <llvm/DebugInfo/PDB/Native/DbiStream.h>
#include <llvm/DebugInfo/PDB/Native/GlobalsStream.h>
#include <llvm/DebugInfo/PDB/Native/InfoStream.h>
#include <llvm/DebugInfo/PDB/Native/ModuleDebugStream.h>
#include <llvm/DebugInfo/PDB/Native/NativeSession.h>
#include <llvm/DebugInfo/PDB/Native/PDBFile.h>
#include <llvm/DebugInfo/PDB/Native/PublicsStream.h>
#include <llvm/DebugInfo/PDB/Native/SymbolStream.h>
#include <llvm/DebugInfo/PDB/Native/TpiStream.h>
#include <llvm/DebugInfo/PDB/PDB.h>
#include <llvm/Object/COFF.h>
#include <unistd.h>

#include <cstdio>
#include <set>

#include "symbols/layout.h"

namespace {

using namespace llvm;
using namespace llvm::codeview;
using unhang::Rva;
using unhang::symbols::LayoutBuilder;
using unhang::symbols::TypeKind;

// PDBs call every unnamed type "<unnamed-tag>"; with their number the names are unique.
std::string type_name(StringRef name, TypeIndex index) {
  if (!name.contains("<unnamed") && !name.contains("<anonymous") && !name.empty()) return name.str();
  return "__unnamed_" + utohexstr(index.getIndex(), true);
}

class Types {
 public:
  Types(LazyRandomTypeCollection& types, LayoutBuilder& builder) : types_(types), builder_(builder) {}

  void add_all() {
    for (auto i = types_.getFirst(); i; i = types_.getNext(*i)) add(*i);
  }

  unsigned ref(TypeIndex index, int depth = 0) {
    if (depth > 16) return 0;
    if (index.isSimple()) return simple(index);
    if (!types_.contains(index) && index.toArrayIndex() >= types_.capacity()) return 0;
    CVType t = types_.getType(index);
    switch (t.kind()) {
      case LF_POINTER: {
        PointerRecord r(TypeRecordKind::Pointer);
        return ok(TypeDeserializer::deserializeAs(t, r))
                   ? builder_.pointer_ref(ref(r.ReferentType, depth + 1))
                   : 0;
      }
      case LF_MODIFIER: {
        ModifierRecord r;
        return ok(TypeDeserializer::deserializeAs(t, r)) ? ref(r.ModifiedType, depth + 1) : 0;
      }
      case LF_BITFIELD: {
        BitFieldRecord r(TypeRecordKind::BitField);
        return ok(TypeDeserializer::deserializeAs(t, r)) ? ref(r.Type, depth + 1) : 0;
      }
      case LF_ARRAY: {
        ArrayRecord r(TypeRecordKind::Array);
        if (!ok(TypeDeserializer::deserializeAs(t, r))) return 0;
        const unsigned inner = ref(r.ElementType, depth + 1);
        const uint64_t size = size_of(r.ElementType, depth + 1);
        return builder_.array_ref(inner, size == 0 ? 0 : static_cast<unsigned>(r.Size / size));
      }
      case LF_ENUM: {
        EnumRecord r(TypeRecordKind::Enum);
        if (!ok(TypeDeserializer::deserializeAs(t, r))) return 0;
        return builder_.named_ref(TypeKind::enumeration, type_name(r.Name, index));
      }
      case LF_STRUCTURE:
      case LF_CLASS:
      case LF_INTERFACE: {
        ClassRecord r(TypeRecordKind::Struct);
        if (!ok(TypeDeserializer::deserializeAs(t, r))) return 0;
        return builder_.named_ref(TypeKind::structure, type_name(r.Name, index));
      }
      case LF_UNION: {
        UnionRecord r(TypeRecordKind::Union);
        if (!ok(TypeDeserializer::deserializeAs(t, r))) return 0;
        return builder_.named_ref(TypeKind::structure, type_name(r.Name, index));
      }
      case LF_PROCEDURE:
      case LF_MFUNCTION:
        return builder_.ref({.kind = TypeKind::function});
      default:
        return 0;
    }
  }

 private:
  static bool ok(Error e) {
    const bool good = !e;
    consumeError(std::move(e));
    return good;
  }

  unsigned simple(TypeIndex index) {
    if (index.getSimpleMode() != SimpleTypeMode::Direct)
      return builder_.pointer_ref(ref(TypeIndex(index.getSimpleKind())));
    switch (index.getSimpleKind()) {
      case SimpleTypeKind::Void:
        return builder_.base_ref("void", 0, false);
      case SimpleTypeKind::NarrowCharacter:
      case SimpleTypeKind::SignedCharacter:
        return builder_.base_ref("char", 1, true);
      case SimpleTypeKind::Boolean8:
      case SimpleTypeKind::Byte:
      case SimpleTypeKind::UnsignedCharacter:
        return builder_.base_ref("unsigned char", 1, false);
      case SimpleTypeKind::SByte:
        return builder_.base_ref("signed char", 1, true);
      case SimpleTypeKind::WideCharacter:
      case SimpleTypeKind::Character16:
        return builder_.base_ref("wchar", 2, false);
      case SimpleTypeKind::Int16Short:
      case SimpleTypeKind::Int16:
        return builder_.base_ref("short", 2, true);
      case SimpleTypeKind::UInt16Short:
      case SimpleTypeKind::UInt16:
        return builder_.base_ref("unsigned short", 2, false);
      case SimpleTypeKind::Int32Long:
      case SimpleTypeKind::HResult:
        return builder_.base_ref("long", 4, true);
      case SimpleTypeKind::Int32:
        return builder_.base_ref("int", 4, true);
      case SimpleTypeKind::UInt32Long:
        return builder_.base_ref("unsigned long", 4, false);
      case SimpleTypeKind::UInt32:
      case SimpleTypeKind::Boolean32:
      case SimpleTypeKind::Character32:
        return builder_.base_ref("unsigned int", 4, false);
      case SimpleTypeKind::Int64Quad:
      case SimpleTypeKind::Int64:
        return builder_.base_ref("long long", 8, true);
      case SimpleTypeKind::UInt64Quad:
      case SimpleTypeKind::UInt64:
      case SimpleTypeKind::Boolean64:
        return builder_.base_ref("unsigned long long", 8, false);
      case SimpleTypeKind::Float32:
        return builder_.base_ref("float", 4, true, true);
      case SimpleTypeKind::Float64:
        return builder_.base_ref("double", 8, true, true);
      default:
        return 0;
    }
  }

  uint64_t size_of(TypeIndex index, int depth) {
    if (depth > 16) return 0;
    if (index.isSimple()) {
      const unsigned r = simple(index);
      return r == 0                                            ? 0
             : index.getSimpleMode() != SimpleTypeMode::Direct ? 8
                                                               : simple_size(index.getSimpleKind());
    }
    if (!types_.contains(index) && index.toArrayIndex() >= types_.capacity()) return 0;
    CVType t = types_.getType(index);
    switch (t.kind()) {
      case LF_POINTER:
        return 8;
      case LF_MODIFIER: {
        ModifierRecord r;
        return ok(TypeDeserializer::deserializeAs(t, r)) ? size_of(r.ModifiedType, depth + 1) : 0;
      }
      case LF_ARRAY: {
        ArrayRecord r(TypeRecordKind::Array);
        return ok(TypeDeserializer::deserializeAs(t, r)) ? r.Size : 0;
      }
      case LF_ENUM: {
        EnumRecord r(TypeRecordKind::Enum);
        return ok(TypeDeserializer::deserializeAs(t, r)) ? size_of(r.UnderlyingType, depth + 1) : 0;
      }
      case LF_STRUCTURE:
      case LF_CLASS: {
        ClassRecord r(TypeRecordKind::Struct);
        if (!ok(TypeDeserializer::deserializeAs(t, r))) return 0;
        return r.isForwardRef() ? sizes_[type_name(r.Name, index)] : r.Size;
      }
      case LF_UNION: {
        UnionRecord r(TypeRecordKind::Union);
        if (!ok(TypeDeserializer::deserializeAs(t, r))) return 0;
        return r.isForwardRef() ? sizes_[type_name(r.Name, index)] : r.Size;
      }
      default:
        return 0;
    }
  }

  static uint64_t simple_size(SimpleTypeKind kind) {
    switch (kind) {
      case SimpleTypeKind::Int16Short:
      case SimpleTypeKind::Int16:
      case SimpleTypeKind::UInt16Short:
      case SimpleTypeKind::UInt16:
      case SimpleTypeKind::WideCharacter:
      case SimpleTypeKind::Character16:
        return 2;
      case SimpleTypeKind::Int64Quad:
      case SimpleTypeKind::Int64:
      case SimpleTypeKind::UInt64Quad:
      case SimpleTypeKind::UInt64:
      case SimpleTypeKind::Boolean64:
      case SimpleTypeKind::Float64:
        return 8;
      case SimpleTypeKind::NarrowCharacter:
      case SimpleTypeKind::SignedCharacter:
      case SimpleTypeKind::UnsignedCharacter:
      case SimpleTypeKind::Boolean8:
      case SimpleTypeKind::Byte:
      case SimpleTypeKind::SByte:
        return 1;
      case SimpleTypeKind::Void:
        return 0;
      default:
        return 4;
    }
  }

  // Members of one field list. A long list goes on in another record.
  class FieldVisitor : public TypeVisitorCallbacks {
   public:
    FieldVisitor(Types& types) : types_(types) {}
    using TypeVisitorCallbacks::visitKnownMember;
    Error visitKnownMember(CVMemberRecord&, DataMemberRecord& m) override {
      uint8_t bit_offset = 0, bit_length = 0;
      if (!m.Type.isSimple() && m.Type.toArrayIndex() < types_.types_.capacity()) {
        CVType t = types_.types_.getType(m.Type);
        BitFieldRecord bits(TypeRecordKind::BitField);
        if (t.kind() == LF_BITFIELD && ok(TypeDeserializer::deserializeAs(t, bits))) {
          bit_offset = bits.BitOffset;
          bit_length = bits.BitSize;
        }
      }
      types_.builder_.add_member(m.Name.str(), static_cast<unsigned>(m.FieldOffset), types_.ref(m.Type),
                                 bit_offset, bit_length);
      return Error::success();
    }
    Error visitKnownMember(CVMemberRecord&, EnumeratorRecord& e) override {
      types_.builder_.add_enumerator(e.Name.str(), e.Value.getExtValue());
      return Error::success();
    }
    Error visitKnownMember(CVMemberRecord&, ListContinuationRecord& c) override {
      next = c.ContinuationIndex;
      return Error::success();
    }
    TypeIndex next;

   private:
    Types& types_;
  };

  void add_fields(TypeIndex list) {
    FieldVisitor visitor(*this);
    for (int parts = 0; parts < 64 && !list.isSimple() && list.toArrayIndex() < types_.capacity(); parts++) {
      CVType t = types_.getType(list);
      FieldListRecord fields(TypeRecordKind::FieldList);
      if (t.kind() != LF_FIELDLIST || !ok(TypeDeserializer::deserializeAs(t, fields))) return;
      visitor.next = TypeIndex::None();
      if (!ok(visitMemberRecordStream(fields.Data, visitor)) || visitor.next.isNoneType()) return;
      list = visitor.next;
    }
  }

  template <class Record>
  void add_struct(CVType& t, TypeIndex index, Record&& r) {
    if (!ok(TypeDeserializer::deserializeAs(t, r)) || r.isForwardRef()) return;
    const std::string name = type_name(r.Name, index);
    sizes_[name] = r.Size;
    builder_.add_type(name, r.Size);
    add_fields(r.FieldList);
  }

  void add(TypeIndex index) {
    CVType t = types_.getType(index);
    switch (t.kind()) {
      case LF_STRUCTURE:
      case LF_CLASS:
        add_struct(t, index, ClassRecord(TypeRecordKind::Struct));
        break;
      case LF_UNION:
        add_struct(t, index, UnionRecord(TypeRecordKind::Union));
        break;
      case LF_ENUM: {
        EnumRecord r(TypeRecordKind::Enum);
        if (!ok(TypeDeserializer::deserializeAs(t, r)) || r.isForwardRef()) return;
        builder_.add_enum(type_name(r.Name, index), size_of(r.UnderlyingType, 0));
        add_fields(r.FieldList);
        break;
      }
      default:
        break;
    }
  }

  LazyRandomTypeCollection& types_;
  LayoutBuilder& builder_;
  std::map<std::string, uint64_t> sizes_;
};

// Section and offset to RVA. Images that were rearranged after linking (BBT) carry the original sections and
// a table from old to new addresses.
class AddressMap {
 public:
  AddressMap(pdb::PDBFile& file, pdb::DbiStream& dbi) {
    for (const auto& s : dbi.getSectionHeaders()) sections_.push_back(s.VirtualAddress);
    const auto omap = stream(file, dbi, pdb::DbgHeaderType::OmapFromSrc);
    const auto original = stream(file, dbi, pdb::DbgHeaderType::SectionHdrOrig);
    if (omap.empty() || original.empty()) return;
    sections_.clear();
    for (size_t i = 0; i + 40 <= original.size(); i += 40)
      sections_.push_back(support::endian::read32le(original.data() + i + 12));
    for (size_t i = 0; i + 8 <= omap.size(); i += 8)
      omap_.emplace_back(support::endian::read32le(omap.data() + i),
                         support::endian::read32le(omap.data() + i + 4));
  }

  uint32_t rva(uint16_t segment, uint32_t offset) const {
    if (segment == 0 || segment > sections_.size()) return 0;
    const uint32_t source = sections_[segment - 1] + offset;
    if (omap_.empty()) return source;
    auto it = std::upper_bound(omap_.begin(), omap_.end(), source,
                               [](uint32_t v, const auto& p) { return v < p.first; });
    if (it == omap_.begin()) return 0;
    --it;
    return it->second == 0 ? 0 : it->second + (source - it->first);
  }

 private:
  static std::vector<uint8_t> stream(pdb::PDBFile& file, pdb::DbiStream& dbi, pdb::DbgHeaderType type) {
    const uint16_t index = dbi.getDebugStreamIndex(type);
    std::vector<uint8_t> out;
    if (index == pdb::kInvalidStreamIndex || index >= file.getNumStreams()) return out;
    auto s = file.safelyCreateIndexedStream(index);
    if (!s) {
      consumeError(s.takeError());
      return out;
    }
    BinaryStreamReader reader(**s);
    ArrayRef<uint8_t> bytes;
    if (Error e = reader.readBytes(bytes, reader.bytesRemaining())) {
      consumeError(std::move(e));
      return out;
    }
    out.assign(bytes.begin(), bytes.end());
    return out;
  }

  std::vector<uint32_t> sections_;
  std::vector<std::pair<uint32_t, uint32_t>> omap_;
};

class Symbols {
 public:
  Symbols(const AddressMap& map, LayoutBuilder& builder) : map_(map), builder_(builder) {}

  void add(const CVSymbol& s) {
    switch (s.kind()) {
      case S_GPROC32:
      case S_LPROC32:
      case S_GPROC32_ID:
      case S_LPROC32_ID: {
        ProcSym p(static_cast<SymbolRecordKind>(s.kind()));
        if (good(SymbolDeserializer::deserializeAs<ProcSym>(s), p)) put(p.Name, p.Segment, p.CodeOffset);
        break;
      }
      case S_GDATA32:
      case S_LDATA32: {
        DataSym d(static_cast<SymbolRecordKind>(s.kind()));
        if (good(SymbolDeserializer::deserializeAs<DataSym>(s), d)) put(d.Name, d.Segment, d.DataOffset);
        break;
      }
      case S_PUB32: {
        PublicSym32 p(SymbolRecordKind::PublicSym32);
        if (good(SymbolDeserializer::deserializeAs<PublicSym32>(s), p)) put(p.Name, p.Segment, p.Offset);
        break;
      }
      default:
        break;
    }
  }

 private:
  template <class T>
  static bool good(Expected<T> r, T& out) {
    if (!r) {
      consumeError(r.takeError());
      return false;
    }
    out = *r;
    return true;
  }
  void put(StringRef name, uint16_t segment, uint32_t offset) {
    const uint32_t rva = map_.rva(segment, offset);
    if (rva == 0 || name.empty() || name.starts_with("??_C@") || !seen_.insert({rva, name.str()}).second)
      return;
    builder_.add_symbol(name.str(), Rva(rva));
  }

  const AddressMap& map_;
  LayoutBuilder& builder_;
  std::set<std::pair<uint32_t, std::string>> seen_;
};

// Functions of the modules: private PDBs name static functions here and nowhere else.
void add_module_symbols(pdb::PDBFile& file, pdb::DbiStream& dbi, Symbols& symbols) {
  const auto& modules = dbi.modules();
  for (uint32_t i = 0; i < modules.getModuleCount(); i++) {
    const auto descriptor = modules.getModuleDescriptor(i);
    const uint16_t index = descriptor.getModuleStreamIndex();
    if (index == pdb::kInvalidStreamIndex || index >= file.getNumStreams()) continue;
    pdb::ModuleDebugStreamRef module(descriptor, file.createIndexedStream(index));
    if (Error e = module.reload()) {
      consumeError(std::move(e));
      continue;
    }
    bool failed = false;
    for (const CVSymbol& s : module.symbols(&failed)) symbols.add(s);
  }
}

Error import(StringRef path, LayoutBuilder& builder) {
  std::unique_ptr<pdb::IPDBSession> session;
  if (Error e = pdb::loadDataForPDB(pdb::PDB_ReaderType::Native, path, session)) return e;
  pdb::PDBFile& file = static_cast<pdb::NativeSession*>(session.get())->getPDBFile();

  auto info = file.getPDBInfoStream();
  if (!info) return info.takeError();
  unhang::image::PdbId id;
  id.name = path.substr(path.find_last_of('/') + 1).str();
  const GUID guid = info->getGuid();
  std::copy(std::begin(guid.Guid), std::end(guid.Guid), id.guid.begin());
  id.age = info->getAge();

  auto tpi = file.getPDBTpiStream();
  if (!tpi) return tpi.takeError();
  LazyRandomTypeCollection types(tpi->typeArray(), tpi->getNumTypeRecords(), tpi->getTypeIndexOffsets());
  Types(types, builder).add_all();

  auto dbi = file.getPDBDbiStream();
  if (!dbi) return dbi.takeError();
  // The age that an image names is the DBI stream's: the info stream's counts every rewrite of the file.
  id.age = dbi->getAge();
  const AddressMap map(file, *dbi);
  Symbols symbols(map, builder);
  add_module_symbols(file, *dbi, symbols);
  auto records = file.getPDBSymbolStream();
  if (!records) return records.takeError();
  bool failed = false;
  for (const CVSymbol& s : records->getSymbols(&failed)) symbols.add(s);
  builder.set_identity(id, "", "PDB");
  return Error::success();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: unhang-import-pdb FILE.pdb > FILE.layout\n");
    return 2;
  }
  LayoutBuilder builder;
  if (Error e = import(argv[1], builder)) {
    std::fprintf(stderr, "%s\n", toString(std::move(e)).c_str());
    return 2;
  }
  const std::vector<uint8_t> bytes = builder.build();
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = write(STDOUT_FILENO, bytes.data() + done, bytes.size() - done);
    if (n <= 0) return 3;
    done += static_cast<size_t>(n);
  }
  return 0;
}
