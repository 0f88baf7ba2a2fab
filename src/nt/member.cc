#include "nt/member.h"

namespace unhang::nt {

namespace {
// Lines register as they are constructed, before main. The vector is made by the first of them.
std::vector<const MemberLine*>& lines() {
  static std::vector<const MemberLine*> all;
  return all;
}
}  // namespace

MemberLine::MemberLine(TypeName type, Need need, const char* path, u32 size,
                       std::array<const char*, kOlderNames> older)
    : type_(type.text), need_(need), path_(path), older_(older), size_(size), number_(lines().size()) {
  lines().push_back(this);
}

const std::vector<const MemberLine*>& MemberLine::all() {
  return lines();
}

}  // namespace unhang::nt
