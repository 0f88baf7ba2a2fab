#include "nt/objects/loader.h"

#include "base/format.h"
#include "nt/target.h"
#include "nt/walk.h"

namespace unhang::nt {

namespace {

// Real machines load some 250 kernel modules and up to 1,000 in one process.
constexpr size_t kMostModules = 4096;
constexpr u64 kMostImageSize = u64{1} << 31;

LoadedModules read_list(const Target& target, const Source<VirtAddr>& space, VirtAddr head,
                        const char* what) {
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
  }
  return out;
}

}  // namespace

LoadedModules read_kernel_modules(const Target& target) {
  const auto head = target.symbol("PsLoadedModuleList");
  if (!head) {
    LoadedModules none;
    none.gaps.push_back({"kernel modules", "", text(head.error())});
    return none;
  }
  return read_list(target, target.kernel(), *head, "kernel modules");
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
  return read_list(target, space, *head, "user modules");
}

}  // namespace unhang::nt
