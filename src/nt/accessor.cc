#include "nt/accessor.h"

#include <algorithm>
#include <iterator>

#include "base/bytes.h"

namespace unhang::nt {

namespace {

constexpr Accessor kAccessors[] = {
    {"PsGetProcessId", "_EPROCESS", "UniqueProcessId"},
    {"PsGetProcessImageFileName", "_EPROCESS", "ImageFileName"},
    {"PsGetProcessPeb", "_EPROCESS", "Peb"},
    {"PsGetProcessInheritedFromUniqueProcessId", "_EPROCESS", "InheritedFromUniqueProcessId"},
    {"PsGetProcessCreateTimeQuadPart", "_EPROCESS", "CreateTime"},
    {"PsGetThreadId", "_ETHREAD", "Cid.UniqueThread"},
    {"PsGetThreadProcessId", "_ETHREAD", "Cid.UniqueProcess"},
    {"PsGetCurrentThreadId", "_ETHREAD", "Cid.UniqueThread"},
    {"IoGetTopLevelIrp", "_ETHREAD", "TopLevelIrp"},
    {"PsGetThreadProcess", "_KTHREAD", "Process"},
    {"IoThreadToProcess", "_KTHREAD", "Process"},
    {"PsGetThreadTeb", "_KTHREAD", "Teb"},
    {"PsGetCurrentThreadTeb", "_KTHREAD", "Teb"},
    {"PsGetThreadWin32Thread", "_KTHREAD", "Win32Thread"},
    {"PsGetCurrentThreadStackBase", "_KTHREAD", "StackBase"},
    {"PsGetCurrentThreadStackLimit", "_KTHREAD", "StackLimit"},
};

}  // namespace

std::span<const Accessor> accessors() {
  return kAccessors;
}

std::optional<u32> offset_in_code(std::span<const u8> code) {
  const ByteView b(code.data(), code.size());
  u64 at = 0;
  u8 base = 1;  // rcx: the first argument
  // mov rax, gs:[188h]: the current thread.
  static constexpr u8 kCurrentThread[] = {0x65, 0x48, 0x8b, 0x04, 0x25, 0x88, 0x01, 0x00, 0x00};
  if (code.size() >= sizeof kCurrentThread &&
      std::equal(std::begin(kCurrentThread), std::end(kCurrentThread), code.begin())) {
    at = sizeof kCurrentThread;
    base = 0;
  }
  if (code.size() < at + 8) return std::nullopt;
  if (b.at<u8>(at) == 0x48) at++;  // REX.W; a member of 4 bytes has none
  const u8 op = b.at<u8>(at), modrm = b.at<u8>(at + 1);
  if ((op != 0x8b && op != 0x8d) || (modrm & 0x3f) != base) return std::nullopt;  // mov or lea to rax
  u32 offset = 0;
  u64 end = 0;
  if ((modrm & 0xc0) == 0x80) {
    offset = b.at<u32>(at + 2);
    end = at + 6;
  } else if ((modrm & 0xc0) == 0x40) {
    offset = b.at<u8>(at + 2);
    end = at + 3;
  } else {
    return std::nullopt;
  }
  if (code.size() <= end || b.at<u8>(end) != 0xc3 || offset > 0x7fffffff) return std::nullopt;  // ret
  return offset;
}

}  // namespace unhang::nt
