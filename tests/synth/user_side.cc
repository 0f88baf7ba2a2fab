#include "synth/user_side.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace unhang::synth {

namespace {

constexpr u64 kPeb = 0x7ff60000, kPeb32 = 0x7ff62000, kRoom = 0x10000, kRoomSize = 0x10000;
constexpr u64 kTeb32 = UserSide::kTeb + 0x2000, kCpuArea = UserSide::kTeb + 0x4000;
constexpr u32 kText = 0x1000, kTextSize = 0x4000, kRdata = kText + kTextSize, kImage32 = kRdata + 0x1000;

template <class T>
void set(std::vector<u8>& b, u64 at, T v) {
  UNHANG_CHECK(at + sizeof v <= b.size());
  std::memcpy(b.data() + at, &v, sizeof v);
}

}  // namespace

std::vector<u8> image_x86(const std::string& file, const std::map<std::string, u32>& functions) {
  std::vector<u8> b(kImage32);
  // Headers of PE32: Microsoft's PE specification.
  set<u16>(b, 0, 0x5a4d);
  set<u32>(b, 0x3c, 0x80);
  set<u32>(b, 0x80, 0x4550);
  set<u16>(b, 0x84, 0x14c);
  set<u16>(b, 0x86, 2);
  set<u32>(b, 0x88, 0x12345678);
  set<u16>(b, 0x94, 0xe0);
  const u32 optional = 0x98;
  set<u16>(b, optional, 0x10b);
  set<u32>(b, optional + 56, kImage32);
  set<u32>(b, optional + 60, 0x1000);
  set<u32>(b, optional + 92, 16);
  const SectionPlan sections[] = {{".text", kText, kTextSize, kCodeSection},
                                  {".rdata", kRdata, 0x1000, kReadOnlySection}};
  u32 at = optional + 0xe0;
  for (const SectionPlan& s : sections) {
    std::memcpy(b.data() + at, s.name, std::strlen(s.name));
    set<u32>(b, at + 8, s.size);
    set<u32>(b, at + 12, s.rva);
    set<u32>(b, at + 16, s.size);
    set<u32>(b, at + 20, s.rva);
    set<u32>(b, at + 36, s.flags);
    at += 40;
  }
  std::fill(b.begin() + kText, b.begin() + kText + kTextSize, u8{0x90});
  const u32 n = static_cast<u32>(functions.size());
  const u32 table = kRdata + 40, names = table + n * 4, ordinals = names + n * 4;
  u32 strings = ordinals + n * 2;
  auto put_text = [&](const std::string& s) {
    UNHANG_CHECK(strings + s.size() + 1 <= kImage32);
    std::memcpy(b.data() + strings, s.c_str(), s.size() + 1);
    strings += static_cast<u32>(s.size()) + 1;
    return strings - static_cast<u32>(s.size()) - 1;
  };
  set(b, kRdata + 12, put_text(file));
  set<u32>(b, kRdata + 20, n);
  set<u32>(b, kRdata + 24, n);
  set(b, kRdata + 28, table);
  set(b, kRdata + 32, names);
  set(b, kRdata + 36, ordinals);
  u16 i = 0;
  for (const auto& [name, rva] : functions) {  // in the order of their names
    b[rva + kCallSite - 5] = 0xe8;
    set(b, table + i * 4u, rva);
    set(b, names + i * 4u, put_text(name));
    set(b, ordinals + i * 2u, i);
    i++;
  }
  set<u32>(b, optional + 96, kRdata);
  set<u32>(b, optional + 100, strings - kRdata);
  return b;
}

UserSide::UserSide(Machine& machine, VirtAddr process, bool wow64)
    : machine_(machine),
      process_(process),
      tables_(machine.get(process, "_KPROCESS", "DirectoryTableBase")),
      next_(kRoom) {
  map(VirtAddr(kRoom), kRoomSize);
  map(VirtAddr(kPeb), kPageSize);
  const u64 ldr = next_;
  next_ += 0x100;
  list64_ = ldr + machine.offset("_PEB_LDR_DATA", "InLoadOrderModuleList");
  put(list64_, list64_);
  put(list64_ + 8, list64_);
  put(kPeb + machine.offset("_PEB", "Ldr"), ldr);
  machine.set(process, "_EPROCESS", "Peb", kPeb);
  put(kPeb + machine.offset("_PEB", "SessionId"), machine.session(process).value_or(0));
  if (!wow64) return;
  map(VirtAddr(kPeb32), kPageSize);
  const u64 ldr32 = next_;
  next_ += 0x40;
  list32_ = ldr32 + 0xc;
  put<u32>(list32_, static_cast<u32>(list32_));
  put<u32>(list32_ + 4, static_cast<u32>(list32_));
  put<u32>(kPeb32 + 0xc, static_cast<u32>(ldr32));
  const bool pointed = machine.has("_EWOW64PROCESS", "Peb");
  const VirtAddr place = pointed ? machine.alloc(0x10) : VirtAddr(kPeb32);
  if (pointed) machine.set(place, "_EWOW64PROCESS", "Peb", kPeb32);
  machine.set(process, "_EPROCESS",
              machine.has("_EPROCESS", "WoW64Process") ? "WoW64Process" : "Wow64Process", place.value());
}

u64 UserSide::text(const std::string& s) {
  const u64 at = next_;
  for (const char c : s) {
    put<u16>(next_, static_cast<u16>(c));
    next_ += 2;
  }
  next_ = (next_ + 17) & ~u64{15};
  UNHANG_CHECK(next_ < kRoom + kRoomSize);
  return at;
}

void UserSide::put_image(VirtAddr base, const std::vector<u8>& image) {
  map(base, image.size());
  memory().write(base, image.data(), image.size(), tables_);
}

void UserSide::add_module(const std::string& file, VirtAddr base, const std::vector<u8>& image) {
  put_image(base, image);
  const u64 name = text(file), entry = next_;
  next_ += 0x140;
  auto at = [&](const char* member) { return entry + machine_.offset("_LDR_DATA_TABLE_ENTRY", member); };
  put(at("DllBase"), base);
  put<u32>(at("SizeOfImage"), static_cast<u32>(image.size()));
  for (const char* member : {"BaseDllName", "FullDllName"}) {
    put<u16>(at(member), static_cast<u16>(file.size() * 2));
    put<u16>(at(member) + 2, static_cast<u16>(file.size() * 2));
    put<u64>(at(member) + 8, name);
  }
  const u64 last = memory().get<u64>(VirtAddr(list64_ + 8), tables_);
  put(entry, list64_);
  put(entry + 8, last);
  put(last, entry);
  put(list64_ + 8, entry);
}

void UserSide::add_module32(const std::string& file, u32 base, const std::vector<u8>& image) {
  put_image(VirtAddr(base), image);
  const u64 name = text(file), entry = next_;
  next_ += 0x60;
  put<u32>(entry + 0x18, base);
  put<u32>(entry + 0x20, static_cast<u32>(image.size()));
  for (const u64 member : {entry + 0x24, entry + 0x2c}) {
    put<u16>(member, static_cast<u16>(file.size() * 2));
    put<u16>(member + 2, static_cast<u16>(file.size() * 2));
    put<u32>(member + 4, static_cast<u32>(name));
  }
  const u32 last = memory().get<u32>(VirtAddr(list32_ + 4), tables_);
  put<u32>(entry, static_cast<u32>(list32_));
  put<u32>(entry + 4, last);
  put<u32>(last, static_cast<u32>(entry));
  put<u32>(list32_ + 4, static_cast<u32>(entry));
}

void UserSide::give_stacks(VirtAddr thread) {
  map(VirtAddr(kTeb), 0x5000);
  map(VirtAddr(kStack), kStackBase - kStack);
  put<u64>(kTeb + 8, kStackBase);
  put<u64>(kTeb + 16, kStack);
  machine_.set(thread, "_KTHREAD", "Teb", kTeb);
  if (list32_ == 0) return;
  map(VirtAddr(kStack32), kStackBase32 - kStack32);
  put<u64>(kTeb, kTeb32);
  put<u32>(kTeb32 + 4, kStackBase32);
  put<u32>(kTeb32 + 8, kStack32);
  put<u32>(kTeb32 + 0x18, static_cast<u32>(kTeb32));
  put<u32>(kTeb32 + 0x30, static_cast<u32>(kPeb32));
}

void UserSide::save_context32(u32 eip, u32 esp, u32 ebp) {
  put<u64>(kTeb + 0x1488, kCpuArea);
  put<u16>(kCpuArea + 2, 0x14c);
  put<u32>(kCpuArea + 4 + 0xb4, ebp);
  put<u32>(kCpuArea + 4 + 0xb8, eip);
  put<u32>(kCpuArea + 4 + 0xbc, 0x23);
  put<u32>(kCpuArea + 4 + 0xc4, esp);
}

void UserSide::enter_from(VirtAddr thread, u64 rip, u64 rsp, u64 rbp, u16 cs) {
  const VirtAddr base(machine_.get(thread, "_KTHREAD", "StackBase"));
  const VirtAddr limit(machine_.get(thread, "_KTHREAD", "StackLimit"));
  // The machine frame that the machine wrote: RIP CS EFLAGS RSP SS; RBP was pushed below it.
  VirtAddr& at = machine_frames_[thread];
  if (at.is_null())
    for (VirtAddr look = base - 0x30; look > limit && at.is_null(); look = look - 8)
      if (memory().get<u64>(look) == 0x77a6002a && memory().get<u64>(look + 8) == 0x33) at = look;
  UNHANG_CHECK(!at.is_null());
  memory().put(at, rip);
  memory().put<u64>(at + 8, cs);
  memory().put(at + 24, rsp);
  memory().put(at - 8, rbp);
}

}  // namespace unhang::synth
