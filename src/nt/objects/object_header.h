// The object manager's side of an object: header, type, name, directories, handle tables.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nt/object.h"
#include "nt/walk.h"

namespace unhang::nt {

struct OBJECT_HEADER {
  static constexpr TypeName kType{"_OBJECT_HEADER"};
  static inline const Member<i64> PointerCount{kType, "PointerCount"};
  static inline const Member<i64> HandleCount{kType, "HandleCount"};
  static inline const Member<u8> TypeIndex{kType, "TypeIndex"};
  static inline const Member<u8> InfoMask{kType, "InfoMask"};
  static inline const Member<Inside> Body{kType, "Body"};
};

struct OBJECT_TYPE {
  static constexpr TypeName kType{"_OBJECT_TYPE"};
  static inline const Member<UnicodeString> Name{kType, "Name"};
  static inline const Member<u8> Index{kType, "Index"};
};

struct OBJECT_HEADER_NAME_INFO {
  static constexpr TypeName kType{"_OBJECT_HEADER_NAME_INFO"};
  static inline const Member<VirtAddr> Directory{kType, "Directory"};
  static inline const Member<UnicodeString> Name{kType, "Name"};
};

struct OBJECT_DIRECTORY {
  static constexpr TypeName kType{"_OBJECT_DIRECTORY"};
  static inline const Member<Inside> HashBuckets{kType, "HashBuckets"};
};

struct OBJECT_DIRECTORY_ENTRY {
  static constexpr TypeName kType{"_OBJECT_DIRECTORY_ENTRY"};
  static inline const Member<VirtAddr> Object{kType, "Object"};
};

struct OBJECT_SYMBOLIC_LINK {
  static constexpr TypeName kType{"_OBJECT_SYMBOLIC_LINK"};
  static inline const Member<UnicodeString> LinkTarget{kType, "LinkTarget"};
};

struct HANDLE_TABLE {
  static constexpr TypeName kType{"_HANDLE_TABLE"};
  static inline const Member<u64> TableCode{kType, "TableCode"};
  static inline const Member<u32> NextHandleNeedingPool{kType, "NextHandleNeedingPool"};
};

struct HANDLE_TABLE_ENTRY {
  static constexpr TypeName kType{"_HANDLE_TABLE_ENTRY"};
  // Up to Windows 7 a pointer to the header with 3 flag bits.
  static inline const Member<VirtAddr> Object{kType, "Object"};
  static inline const Member<u32> GrantedAccess{kType, "GrantedAccess"};
  // Since Windows 8 the upper bits of one quadword, the address shifted right by 4.
  static inline const Member<u64> ObjectPointerBits{kType, "ObjectPointerBits"};
  static inline const Member<u32> GrantedAccessBits{kType, "GrantedAccessBits"};
};

// What the header says of an object; `object` is the body's address.
struct ObjectInfo {
  VirtAddr object{};
  VirtAddr header{};
  std::string type;  // "File"; empty when it cannot be told
  std::string name;  // the last part; empty for unnamed objects
  VirtAddr directory{};
  i64 pointer_count = 0, handle_count = 0;
};

struct Handle {
  u64 value = 0;
  VirtAddr object{};
  u32 access = 0;
};

struct HandleWalk {
  std::vector<Handle> handles;
  std::vector<Gap> gaps;
};

// The object manager of one target. Finds the type table and the cookie once.
class ObjectManager {
 public:
  explicit ObjectManager(const Target& target);

  Result<ObjectInfo> info(VirtAddr object) const;
  // "\Device\HarddiskVolume2": name and directories up to the root. Empty for unnamed objects.
  std::string path(VirtAddr object) const;
  // Objects of a directory by name. Errors: those of reading.
  Result<std::map<std::string, VirtAddr>> directory(VirtAddr directory) const;
  // "\GLOBAL??" -> the directory; parts are compared ignoring case.
  std::optional<VirtAddr> find(std::string_view path) const;
  // Target of a symbolic link.
  Result<std::string> link_target(VirtAddr link) const;
  // Handles of a process's table (EPROCESS.ObjectTable).
  HandleWalk handles(VirtAddr table) const;
  // The device name that a drive letter stands for, by device: {"\Device\HarddiskVolume2", "C:"}.
  const std::map<std::string, std::string>& drives() const { return drives_; }
  // How types are told, for `info`.
  const std::string& how() const { return how_; }

 private:
  void find_root();
  // The directory without a directory above it; nothing when the way does not end at "\".
  std::optional<VirtAddr> climb(VirtAddr object) const;
  void find_types();
  void find_cookie();
  void find_drives();
  std::string type_name(VirtAddr header, u8 raw) const;

  const Target& target_;
  std::optional<VirtAddr> root_;
  std::map<u8, std::string> types_;
  std::optional<u8> cookie_;  // absent: indexes are plain (up to Windows 8.1)
  std::string how_;
  std::map<std::string, std::string> drives_;
};

}  // namespace unhang::nt
