#include "nt/objects/loader.h"

#include "base/format.h"
#include "nt/target.h"
#include "nt/walk.h"

namespace unhang::nt {

namespace {

// Real machines load some 250 kernel modules and up to 1,000 in one process.
constexpr size_t kMostModules = 4096;
constexpr u64 kMostImageSize = u64{1} << 31;

LoadedModules read_list(const Target& target, const Source<VirtAddr>& space, VirtAddr head, const char* what,
                        const Member<u32>& time_stamp) {
  using L = LDR_DATA_TABLE_ENTRY;
  LoadedModules out;
  const Walk walk = walk_list(space, head, kMostModules);
  if (!walk.complete()) out.gaps.push_back({what, "", walk.how()});
  const auto link = target.bind(L::InLoadOrderLinks);
  if (!link) {
    out.gaps.push_back({what, "", text(link.error())});
    return out;
  }
  for (const VirtAddr l : walk.links) {
    const Object entry(target, l - link->offset, space);
    const auto base = entry[L::DllBase];
    const auto size = entry[L::SizeOfImage];
    if (!base || !size || base->page_offset() != 0 || base->is_null() || *size > kMostImageSize) {
      out.gaps.push_back(
          {what, hex(entry.va()), base ? "an entry with an impossible base or size" : text(base.error())});
      continue;
    }
    const auto name = [&](const Member<UnicodeString>& member) {
      const auto s = entry[member];
      return s ? target.read_string(*s, space).value_or("") : std::string();
    };
    std::string file = name(L::BaseDllName), path = name(L::FullDllName);
    if (file.empty()) file = path.substr(path.find_last_of('\\') + 1);
    // The name's page may be gone; the image is there all the same.
    if (file.empty()) file = fmt::format("module_{:x}", base->value());
    out.modules.push_back(std::make_unique<Module>(std::move(file), std::move(path), *base, *size));
    out.modules.back()->set_time_stamp(entry.value_or(time_stamp, 0));
  }
  return out;
}

// PEB, PEB_LDR_DATA and LDR_DATA_TABLE_ENTRY of 32-bit code. The kernel's PDB does not have them; their
// public 32-bit form has been the same since Windows XP (Microsoft's public symbols of 32-bit ntdll).
constexpr u64 kLdr32 = 0xc, kInLoadOrder32 = 0xc;
constexpr u64 kDllBase32 = 0x18, kSizeOfImage32 = 0x20, kFullDllName32 = 0x24, kBaseDllName32 = 0x2c,
              kTimeDateStamp32 = 0x44;

std::string read_string32(const Target& target, const Source<VirtAddr>& space, VirtAddr at) {
  struct UnicodeString32 {
    u16 length, maximum;
    u32 buffer;
  };
  const auto s = memory::read<UnicodeString32>(space, at);
  if (!s) return "";
  return target
      .read_string({.length = s->length, .maximum = s->maximum, .buffer = VirtAddr(s->buffer)}, space)
      .value_or("");
}

}  // namespace

LoadedModules read_user_modules32(const Target& target, const Source<VirtAddr>& space, VirtAddr peb32) {
  LoadedModules out;
  if (peb32.is_null()) return out;
  const auto ldr = memory::read<u32>(space, peb32 + kLdr32);
  if (!ldr) {
    out.gaps.push_back({"32-bit modules", hex(peb32), text(ldr.error())});
    return out;
  }
  if (*ldr == 0) return out;
  const Walk walk = walk_list32(space, VirtAddr(*ldr) + kInLoadOrder32, kMostModules);
  if (!walk.complete()) out.gaps.push_back({"32-bit modules", "", walk.how()});
  for (const VirtAddr entry : walk.links) {
    const auto base = memory::read<u32>(space, entry + kDllBase32);
    const auto size = memory::read<u32>(space, entry + kSizeOfImage32);
    if (!base || !size || *base == 0 || *base % kPageSize != 0 || *size > kMostImageSize) {
      out.gaps.push_back({"32-bit modules", hex(entry), "an entry with an impossible base or size"});
      continue;
    }
    std::string file = read_string32(target, space, entry + kBaseDllName32);
    if (file.empty()) file = fmt::format("module_{:x}", *base);
    out.modules.push_back(std::make_unique<Module>(
        std::move(file), read_string32(target, space, entry + kFullDllName32), VirtAddr(*base), *size));
    out.modules.back()->set_time_stamp(memory::read<u32>(space, entry + kTimeDateStamp32).value_or(0));
  }
  return out;
}

VirtAddr peb32_of(const Target& target, VirtAddr wow64) {
  if (!is_kernel(wow64)) return wow64;
  return Object(target, wow64).value_or(EWOW64PROCESS::Peb, {});
}

LoadedModules read_kernel_modules(const Target& target) {
  const auto head = target.symbol("PsLoadedModuleList");
  if (!head) {
    LoadedModules none;
    none.gaps.push_back({"kernel modules", "", text(head.error())});
    return none;
  }
  return read_list(target, target.kernel(), *head, "kernel modules", KLDR_DATA_TABLE_ENTRY::TimeDateStamp);
}

LoadedModules read_user_modules(const Target& target, const Source<VirtAddr>& space, VirtAddr peb) {
  LoadedModules none;
  if (peb.is_null()) return none;
  const auto ldr = Object(target, peb, space)[PEB::Ldr];
  if (!ldr) {
    none.gaps.push_back({"user modules", hex(peb), text(ldr.error())});
    return none;
  }
  if (ldr->is_null()) return none;
  const auto head = Object(target, *ldr, space).address(PEB_LDR_DATA::InLoadOrderModuleList);
  if (!head) return none;
  return read_list(target, space, *head, "user modules", LDR_DATA_TABLE_ENTRY::TimeDateStamp);
}

}  // namespace unhang::nt
