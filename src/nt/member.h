// Kernel members: one line each, with the C++ type of the value, the path in the Windows structure and older
// names of it. A line is bound once per target; nothing here knows a build number.
//
//   struct ERESOURCE {
//     static constexpr TypeName kType{"_ERESOURCE"};
//     static inline const Member<u16> Flag{kType, "Flag"};
//   };
//   Result<u16> flag = object[ERESOURCE::Flag];
#pragma once

#include <array>
#include <type_traits>
#include <vector>

#include "base/types.h"

namespace unhang::nt {

struct TypeName {
  const char* text;
};

// LIST_ENTRY by value. Walking lists is nt/walk.h's job; nothing else follows these.
struct ListEntry {
  VirtAddr flink;
  VirtAddr blink;
};

// UNICODE_STRING by value; Target::read_string follows the buffer.
struct UnicodeString {
  u16 length = 0;  // bytes
  u16 maximum = 0;
  u32 padding = 0;
  VirtAddr buffer{};
};
static_assert(sizeof(UnicodeString) == 16);

// An integer of whatever size the target says (1, 2, 4 or 8 bytes), read as u64.
struct AnyInteger {
  u64 value = 0;
};

// A member that is only taken the address of: an embedded structure, an array.
struct Inside {};

// The size that a member must have; 0: any.
template <class T>
constexpr u32 expected_size() {
  if constexpr (std::is_same_v<T, AnyInteger> || std::is_same_v<T, Inside>) return 0;
  return sizeof(T);
}

// Required: without it there is no analysis, whatever the build. Other members cost what leans on them, and
// many came or went with a Windows version.
enum class Need : u8 { useful, required };
inline constexpr Need kRequired = Need::required;

class MemberLine {
 public:
  static constexpr size_t kOlderNames = 3;

  MemberLine(TypeName type, Need need, const char* path, u32 size,
             std::array<const char*, kOlderNames> older);
  MemberLine(const MemberLine&) = delete;
  MemberLine& operator=(const MemberLine&) = delete;

  const char* type() const { return type_; }
  const char* path() const { return path_; }
  const std::array<const char*, kOlderNames>& older() const { return older_; }
  bool required() const { return need_ == Need::required; }
  u32 size() const { return size_; }
  // Index into a target's table of bindings.
  size_t number() const { return number_; }

  // Every line of the program: for `symbols check`.
  static const std::vector<const MemberLine*>& all();

 private:
  const char* type_;
  Need need_;
  const char* path_;
  std::array<const char*, kOlderNames> older_;
  u32 size_;
  size_t number_;
};

template <class T>
class Member : public MemberLine {
 public:
  static_assert(std::is_trivially_copyable_v<T>);
  Member(TypeName type, const char* path, const char* older1 = nullptr, const char* older2 = nullptr,
         const char* older3 = nullptr)
      : Member(type, Need::useful, path, older1, older2, older3) {}
  Member(TypeName type, Need need, const char* path, const char* older1 = nullptr,
         const char* older2 = nullptr, const char* older3 = nullptr)
      : MemberLine(type, need, path, expected_size<T>(), {older1, older2, older3}) {}
};

}  // namespace unhang::nt
