#include "nt/objects/object_header.h"

#include <algorithm>

#include "base/format.h"
#include "nt/objects/process.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {

constexpr u32 kBuckets = 37;  // of an object directory, on every build
constexpr u64 kHandleEntrySize = 16;
constexpr u64 kEntriesPerPage = kPageSize / kHandleEntrySize;
constexpr u64 kPointersPerPage = kPageSize / 8;
constexpr size_t kMostPages = 1 << 17;         // of a table: more than its handles need
constexpr size_t kMostHandles = 1 << 22;       // Windows' own limit is 16 million
constexpr u8 kCreatorInfo = 1, kNameInfo = 2;  // OBJECT_HEADER.InfoMask
constexpr int kDeepest = 32;                   // directories below each other

// Variables that the kernel exports for drivers; each holds a pointer to a type.
constexpr const char* kTypeVariables[] = {
    "PsProcessType",      "PsThreadType",        "IoFileObjectType",      "IoDriverObjectType",
    "IoDeviceObjectType", "ExEventObjectType",   "ExSemaphoreObjectType", "ExMutantObjectType",
    "ExTimerObjectType",  "MmSectionObjectType", "SeTokenObjectType",     "CmKeyObjectType",
    "LpcPortObjectType",  "AlpcPortObjectType",  "ExDesktopObjectType",   "ExWindowStationObjectType",
    "ObpTypeObjectType"};

bool same_name(std::string_view a, std::string_view b) {
  auto low = [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : +c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return low(x) == low(y); });
}

}  // namespace

ObjectManager::ObjectManager(const Target& target) : target_(target) {
  find_root();
  find_types();
  find_cookie();
  find_drives();
}

// Without symbols the root is where the directories above a named object end: types lie in \ObjectTypes, and
// the System process has handles of named objects.
void ObjectManager::find_root() {
  if (const auto root = target_.pointer_at("ObpRootDirectoryObject"); root && is_kernel(*root)) {
    root_ = *root;
    return;
  }
  for (const char* variable : kTypeVariables) {
    if (root_) return;
    if (const auto type = target_.pointer_at(variable); type && is_kernel(*type)) root_ = climb(*type);
  }
  const auto system = target_.pointer_at("PsInitialSystemProcess");
  if (root_ || !system) return;
  const auto table = Object(target_, *system)[EPROCESS::ObjectTable];
  if (!table || !is_kernel(*table)) return;
  for (const Handle& h : handles(*table).handles) {
    root_ = climb(h.object);
    if (root_) return;
  }
}

std::optional<VirtAddr> ObjectManager::climb(VirtAddr object) const {
  for (int depth = 0; depth < kDeepest; depth++) {
    const auto i = info(object);
    if (!i) return std::nullopt;
    if (!is_kernel(i->directory)) {
      if (i->name != "\\") return std::nullopt;
      return object;
    }
    object = i->directory;
  }
  return std::nullopt;
}

void ObjectManager::find_types() {
  auto add = [&](VirtAddr type) {
    const Object o(target_, type);
    const auto index = o[OBJECT_TYPE::Index];
    const auto name = o[OBJECT_TYPE::Name];
    if (!index || !name || *index == 0) return;
    const auto text = target_.read_string(*name);
    if (text && !text->empty() && text->size() < 64) types_.emplace(*index, *text);
  };
  if (const auto table = target_.symbol("ObTypeIndexTable")) {
    how_ = "ObTypeIndexTable";
    for (u64 i = 0; i < 256; i++) {
      const auto type = memory::read<VirtAddr>(target_.kernel(), *table + i * 8);
      if (!type) break;
      if (is_kernel(*type)) add(*type);
    }
    if (!types_.empty()) return;
  }
  how_ = "exported type variables";
  for (const char* variable : kTypeVariables)
    if (const auto type = target_.pointer_at(variable); type && is_kernel(*type)) add(*type);
  // The namespace lists all of them; it can be walked before types are known.
  if (const auto types = find("\\ObjectTypes"))
    if (const auto all = directory(*types)) {
      how_ = "\\ObjectTypes";
      for (const auto& [name, type] : *all) add(type);
    }
}

// Windows 10 and later store TypeIndex ^ ObHeaderCookie ^ the second byte of the header's address. Without
// the symbol the cookie follows from an object whose type is known for certain: the System process.
void ObjectManager::find_cookie() {
  if (const auto at = target_.symbol("ObHeaderCookie")) {
    if (const auto v = memory::read<u8>(target_.kernel(), *at)) cookie_ = *v;
    return;
  }
  if (target_.layouts().exact() != nullptr) return;  // this build has no cookie
  const auto system = target_.pointer_at("PsInitialSystemProcess");
  const auto type = target_.pointer_at("PsProcessType");
  const auto body = target_.bind(OBJECT_HEADER::Body);
  if (!system || !type || !body) return;
  const VirtAddr header = *system - body->offset;
  const auto raw = Object(target_, header)[OBJECT_HEADER::TypeIndex];
  const auto index = Object(target_, *type)[OBJECT_TYPE::Index];
  if (!raw || !index || *raw == *index) return;
  cookie_ = static_cast<u8>(*raw ^ *index ^ (header.value() >> 8));
}

std::string ObjectManager::type_name(VirtAddr header, u8 raw) const {
  const u8 index = cookie_ ? static_cast<u8>(raw ^ *cookie_ ^ (header.value() >> 8)) : raw;
  const auto it = types_.find(index);
  return it == types_.end() ? std::string() : it->second;
}

Result<ObjectInfo> ObjectManager::info(VirtAddr object) const {
  const Bound body = TRY(target_.bind(OBJECT_HEADER::Body));
  ObjectInfo i{.object = object, .header = object - body.offset};
  const Object h(target_, i.header);
  i.type = type_name(i.header, TRY(h[OBJECT_HEADER::TypeIndex]));
  i.pointer_count = h.value_or(OBJECT_HEADER::PointerCount, 0);
  i.handle_count = h.value_or(OBJECT_HEADER::HandleCount, 0);
  const u8 mask = h.value_or(OBJECT_HEADER::InfoMask, 0);
  if ((mask & kNameInfo) == 0) return i;
  // Optional headers stand before the header, the creator's nearest.
  const u64 creator = (mask & kCreatorInfo) != 0
                          ? target_.layouts().size_of("_OBJECT_HEADER_CREATOR_INFO").value_or(0x20)
                          : 0;
  const u64 size = target_.layouts().size_of("_OBJECT_HEADER_NAME_INFO").value_or(0x20);
  const Object n(target_, i.header - creator - size);
  i.directory = n.value_or(OBJECT_HEADER_NAME_INFO::Directory, {});
  if (const auto name = n[OBJECT_HEADER_NAME_INFO::Name]) i.name = target_.read_string(*name).value_or("");
  return i;
}

std::string ObjectManager::path(VirtAddr object) const {
  std::string path;
  for (int depth = 0; depth < kDeepest; depth++) {
    if (root_ && object == *root_) return path.empty() ? "\\" : path;
    const auto i = info(object);
    if (!i || i->name.empty() || (i->name == "\\" && !path.empty())) return path;
    // A directory's own name may begin with the separator.
    path = (i->name.front() == '\\' ? "" : "\\") + i->name + path;
    if (!is_kernel(i->directory)) return path;
    object = i->directory;
  }
  return path;
}

Result<std::map<std::string, VirtAddr>> ObjectManager::directory(VirtAddr directory) const {
  std::map<std::string, VirtAddr> out;
  const VirtAddr buckets = TRY(Object(target_, directory).address(OBJECT_DIRECTORY::HashBuckets));
  for (u64 i = 0; i < kBuckets; i++) {
    const VirtAddr first = TRY(memory::read<VirtAddr>(target_.kernel(), buckets + i * 8));
    // OBJECT_DIRECTORY_ENTRY.ChainLink is its first member: a single list.
    for (const VirtAddr entry : walk_chain(target_.kernel(), first, 1 << 16).links)
      if (const auto object = Object(target_, entry)[OBJECT_DIRECTORY_ENTRY::Object];
          object && is_kernel(*object))
        if (const auto i2 = info(*object); i2 && !i2->name.empty()) out.emplace(i2->name, *object);
  }
  return out;
}

std::optional<VirtAddr> ObjectManager::find(std::string_view path) const {
  std::optional<VirtAddr> at = root_;
  while (at && !path.empty()) {
    path.remove_prefix(1);  // the separator
    const auto end = path.find('\\');
    const std::string_view part = path.substr(0, end);
    path.remove_prefix(end == path.npos ? path.size() : end);
    if (part.empty()) return at;
    const auto entries = directory(*at);
    at.reset();
    if (!entries) break;
    for (const auto& [name, object] : *entries)
      if (same_name(name, part)) at = object;
  }
  return at;
}

Result<std::string> ObjectManager::link_target(VirtAddr link) const {
  return target_.read_string(TRY(Object(target_, link)[OBJECT_SYMBOLIC_LINK::LinkTarget]));
}

void ObjectManager::find_drives() {
  const auto global = find("\\GLOBAL??");
  if (!global) return;
  const auto links = directory(*global);
  if (!links) return;
  for (const auto& [name, link] : *links)
    if (name.size() == 2 && name[1] == ':')
      if (const auto device = link_target(link); device && !device->empty()) drives_.emplace(*device, name);
}

HandleWalk ObjectManager::handles(VirtAddr table) const {
  HandleWalk out;
  const Object t(target_, table);
  const auto code = t[HANDLE_TABLE::TableCode];
  if (!code) {
    out.gaps.push_back({"handle table", hex(table), text(code.error())});
    return out;
  }
  const auto body = target_.bind(OBJECT_HEADER::Body);
  const auto bits = target_.bind(HANDLE_TABLE_ENTRY::ObjectPointerBits);
  const auto old = target_.bind(HANDLE_TABLE_ENTRY::Object);
  if (!body || (!bits && !old)) {
    out.gaps.push_back({"handle table", hex(table), "the form of its entries is unknown"});
    return out;
  }
  const u64 next = t.value_or(HANDLE_TABLE::NextHandleNeedingPool, 0);  // handle values run in steps of 4
  size_t missing = 0, visited = 0;
  bool cut = false;
  // The low 2 bits of TableCode: 0 one page of entries, 1 pages of pointers to such, 2 one level more.
  auto page = [&](auto&& self, VirtAddr at, u64 level, u64 first) -> void {
    if (next != 0 && first * 4 >= next) return;
    if (out.handles.size() >= kMostHandles || ++visited > kMostPages) {
      cut = true;
      return;
    }
    const auto bytes = memory::read_sparse(target_.kernel(), at, kPageSize);
    const ByteView b(bytes.bytes);
    if (!bytes.holes.empty()) {
      missing++;
      return;
    }
    if (level > 0) {
      const u64 below = level == 1 ? kEntriesPerPage : kEntriesPerPage * kPointersPerPage;
      for (u64 i = 0; i < kPointersPerPage; i++)
        if (const VirtAddr p(b.at<u64>(i * 8)); is_kernel(p) && p != at)
          self(self, p, level - 1, first + i * below);
      return;
    }
    for (u64 i = 1; i < kEntriesPerPage; i++) {  // entry 0 of a page is the table's own
      const u64 low = b.at<u64>(i * kHandleEntrySize);
      if (low == 0) continue;
      // Arithmetic shift: the pointer's sign bits come back by themselves.
      const VirtAddr header(bits
                                ? static_cast<u64>(static_cast<i64>(low) >> (bits->bit_offset - 4)) & ~u64{15}
                                : low & ~u64{7});
      if (!is_kernel(header)) continue;
      const u32 access = b.at<u32>(i * kHandleEntrySize + 8) & (bits ? 0x1ffffff : ~u32{0});
      out.handles.push_back({(first + i) * 4, header + body->offset, access});
    }
  };
  page(page, VirtAddr(*code & ~u64{7}), *code & 3, 0);
  if (missing != 0)
    out.gaps.push_back({"handle table", hex(table), fmt::format("{} of its pages are missing", missing)});
  if (cut) out.gaps.push_back({"handle table", hex(table), "larger than any can be: cut"});
  return out;
}

}  // namespace unhang::nt
