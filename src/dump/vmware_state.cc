// A header {u32 magic, version, groups}, groups of 80 bytes {char name[64]; u64 position, size}, and at each
// group's position tags: u16 {name length << 8 | indexes << 6 | value size}, the name, an u32 for each index,
// the value; the tag 0 ends the group. Value size 63 is a block {u64 size, u64 size in memory, u16 padding,
// padding, bytes}, 62 a compressed one. Sources: the header of crash's reader for these files (vmware_vmss.h)
// and volatility3's layers/vmware.py; facts only. FORMATS 4.
#include "dump/vmware_state.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/format.h"

namespace unhang::dump {

namespace {

constexpr const char* kType = "VMware state";
constexpr u32 kOld = 0xbed0bed0, kWhole = 0xbed2bed2, kPartial = 0xbed3bed3, kRestored = 0xbad1bad1,
              kNoRestore = 0xbad2bad2;
constexpr u64 kHeaderSize = 12, kGroupSize = 80;
constexpr u32 kMostGroups = 4096, kMostTags = 1 << 20, kMostCpus = 4096, kMostRegions = 4096;
constexpr u64 kMostPages = u64{1} << 34;
constexpr u8 kBlock = 63, kCompressedBlock = 62;

std::unexpected<Error> bad(const char* detail, u64 offset = 0) {
  return fail(Error{.why = Why::bad_file, .offset = offset, .type = kType, .detail = detail});
}

struct Tag {
  std::string_view name;
  std::array<u32, 3> index{};
  u32 indexes = 0;
  bool block = false, compressed = false;
  u64 in_memory = 0;  // of a block
  u64 at = 0, size = 0;
};

// Tags of one group from its position on.
class Tags {
 public:
  Tags(ByteView bytes, u64 at) : bytes_(bytes), at_(at) {}

  // Nothing at the end of the group, and where the file ends within it.
  std::optional<Tag> next() {
    const auto word = take<u16>();
    if (!word || *word == 0) return std::nullopt;
    Tag t;
    const u64 length = *word >> 8, size = *word & 63;
    const auto name = bytes_.sub(at_, length);
    if (!name) return cut();
    t.name = {reinterpret_cast<const char*>(name->data()), name->size()};
    at_ += length;
    t.indexes = *word >> 6 & 3;
    for (u32 i = 0; i < t.indexes; i++) t.index[i] = take<u32>().value_or(0);
    t.size = size;
    t.block = size == kBlock || size == kCompressedBlock;
    if (t.block) {
      t.compressed = size == kCompressedBlock;
      t.size = take<u64>().value_or(0);
      t.in_memory = take<u64>().value_or(0);
      const u64 padding = take<u16>().value_or(0);
      at_ += padding;
    }
    if (truncated_) return std::nullopt;
    t.at = at_;
    const auto end = checked_add(at_, t.size);
    // The memory of a truncated file ends with it; whoever takes the tag sees that.
    at_ = end ? std::min<u64>(*end, bytes_.size()) : bytes_.size();
    return t;
  }
  bool truncated() const { return truncated_; }

 private:
  std::optional<Tag> cut() {
    truncated_ = true;
    return std::nullopt;
  }
  template <class T>
  std::optional<T> take() {
    const auto v = bytes_.le<T>(at_);
    truncated_ = truncated_ || !v;
    if (v) at_ += sizeof(T);
    return v;
  }

  ByteView bytes_;
  u64 at_;
  bool truncated_ = false;
};

class Reader {
 public:
  explicit Reader(ByteView bytes) : bytes_(bytes) {}

  Result<VmwareState> read() {
    if (bytes_.size() < kHeaderSize) return bad("truncated inside its header");
    const u32 magic = bytes_.at<u32>(0), groups = bytes_.at<u32>(8);
    if (magic == kOld)
      return fail(
          Error{.why = Why::unsupported, .type = kType, .detail = "the old form, with sizes of 32 bits"});
    out_.partial = magic == kPartial;
    if (groups > kMostGroups) return bad("its count of groups is impossible", 8);
    if (!bytes_.covers(kHeaderSize, groups * kGroupSize))
      return bad("truncated inside its groups", kHeaderSize);
    bool memory = false;
    for (u32 i = 0; i < groups; i++) {
      const u64 at = kHeaderSize + i * kGroupSize;
      const std::string_view name = bytes_.c_string(at, 64);
      if (name == "memory") memory = true;
      if (name == "memory" || name == "cpu") TRY_VOID(group(name, bytes_.at<u64>(at + 64)));
    }
    if (!memory) return bad("it has no group \"memory\"");
    TRY_VOID(take_regions());
    take_cpus();
    return std::move(out_);
  }

 private:
  struct Cpu {
    CpuState state;
    u32 general = 0;  // bit for each register that was seen
    bool rip = false, cr3 = false, gs = false;
  };

  Result<void> group(std::string_view name, u64 position) {
    Tags tags(bytes_, position);
    u32 count = 0;
    while (const auto tag = tags.next()) {
      if (++count > kMostTags) return bad("a group without an end", position);
      if (name == "memory")
        TRY_VOID(memory_tag(*tag));
      else
        cpu_tag(*tag);
    }
    if (tags.truncated())
      out_.gaps.push_back(
          {fmt::format("group \"{}\"", name), hex(position), "the file is truncated inside it"});
    return {};
  }

  // Up to eight bytes; a value that is cut reads as 0.
  u64 value(const Tag& t) const {
    u64 v = 0;
    if (const auto bytes = bytes_.sub(t.at, std::min<u64>(t.size, sizeof v)))
      std::memcpy(&v, bytes->data(), bytes->size());
    return v;
  }

  Result<void> memory_tag(const Tag& t) {
    if (t.name == "Memory" && t.block) {
      if (t.compressed)
        return fail(Error{.why = Why::unsupported,
                          .offset = t.at,
                          .type = kType,
                          .detail = "its memory is compressed: suspend or snapshot with a .vmem file"});
      out_.memory_offset = t.at;
      out_.memory_size = t.size;
    } else if (t.name == "regionsCount") {
      count_ = value(t);
    } else if (t.indexes == 1 && t.index[0] < kMostRegions) {
      const u32 i = t.index[0];
      if (t.name == "regionPageNum") regions_[i].page = value(t);
      if (t.name == "regionPPN") regions_[i].ppn = value(t);
      if (t.name == "regionSize") regions_[i].size = value(t);
    }
    return {};
  }

  Result<void> take_regions() {
    if (count_ > kMostRegions) return bad("its count of memory regions is impossible");
    for (u64 i = 0; i < count_; i++) {
      const auto it = regions_.find(static_cast<u32>(i));
      if (it == regions_.end() || it->second.size == 0) {
        out_.gaps.push_back({"guest memory", "", fmt::format("region {} is not described", i)});
        continue;
      }
      const VmwareState::Region& r = it->second;
      if (r.page > kMostPages || r.ppn > kMostPages || r.size > kMostPages)
        return bad("a memory region that cannot be");
      out_.regions.push_back(r);
    }
    if (count_ != 0 && out_.regions.empty()) return bad("none of its memory regions is described");
    return {};
  }

  void cpu_tag(const Tag& t) {
    if (t.name == "cpu:numVCPUs") cpu_count_ = static_cast<u32>(std::min<u64>(value(t), kMostCpus));
    if (t.indexes == 0 || t.index[0] >= kMostCpus) return;
    // Only what names a register makes a processor: there are many tags with an index.
    const auto cpu = [&]() -> Cpu& { return cpus_[t.index[0]]; };
    const auto name = std::ranges::find(kGprNames, t.name);
    if (name != kGprNames.end() && t.size == 8) {
      const auto i = static_cast<u32>(name - kGprNames.begin());
      cpu().state.gpr[i] = value(t);
      cpu().general |= 1U << i;
    } else if (t.name == "gpregs" && t.size == 128 && bytes_.covers(t.at, 128)) {
      // In this one rbp stands before rsp.
      constexpr Gpr kOrder[] = {rax, rcx, rdx, rbx, rbp, rsp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15};
      for (u64 i = 0; i < 16; i++) cpu().state.gpr[kOrder[i]] = bytes_.at<u64>(t.at + i * 8);
      cpu().general = 0xFFFF;
    } else if (t.name == "rip" && t.size == 8) {
      cpu().state.rip = value(t);
      cpu().rip = true;
    } else if (t.name == "eflags" || t.name == "EFLAGS") {
      cpu().state.rflags |= value(t) & 0xFFFFFFFF;
    } else if (t.name == "CR64") {
      if (t.block && t.size == 72 && bytes_.covers(t.at, 72))
        for (u32 i = 0; i <= 4; i++) control(cpu(), i, bytes_.at<u64>(t.at + i * 8));
      else if (!t.block && t.indexes == 2)
        control(cpu(), t.index[1], value(t));
    } else if (t.name == "IDTR" && t.block && t.size == 10 && bytes_.covers(t.at, 10)) {
      cpu().state.idt.limit = bytes_.at<u16>(t.at);
      cpu().state.idt.base = bytes_.at<u64>(t.at + 2);
    } else if (t.indexes == 2 && (t.name == "S" || t.name == "S.base64")) {
      segment(cpu(), t.index[1], t.name == "S", value(t));
    }
  }

  static void control(Cpu& c, u32 number, u64 v) {
    if (number == 0) c.state.cr0 = v;
    if (number == 2) c.state.cr2 = v;
    if (number == 3) c.state.cr3 = v;
    if (number == 4) c.state.cr4 = v;
    c.cr3 = c.cr3 || number == 3;
  }

  static void segment(Cpu& c, u32 number, bool selector, u64 v) {
    CpuState& s = c.state;
    Segment* const kOrder[] = {&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs, &s.ldt, &s.tr};
    if (number >= std::size(kOrder)) return;
    if (selector)
      kOrder[number]->selector = static_cast<u16>(v);
    else
      kOrder[number]->base = v;
    c.gs = c.gs || (!selector && number == 5);
  }

  void take_cpus() {
    for (auto& [number, cpu] : cpus_) {
      if (number >= cpu_count_ || cpu.general != 0xFFFF || !cpu.rip) {
        if (number < cpu_count_)
          out_.gaps.push_back({fmt::format("registers of CPU {}", number), "", "they are not all there"});
        continue;
      }
      cpu.state.has_control = cpu.cr3 && cpu.gs;
      out_.cpus.push_back(cpu.state);
    }
    if (out_.cpus.empty()) out_.gaps.push_back({"CPU registers", "", "the file holds none that are known"});
  }

  ByteView bytes_;
  VmwareState out_;
  u64 count_ = 0;
  std::map<u32, VmwareState::Region> regions_;
  u32 cpu_count_ = 0;
  std::map<u32, Cpu> cpus_;
};

}  // namespace

bool is_vmware_state(ByteView bytes) {
  constexpr u32 kMagics[] = {kOld, kWhole, kPartial, kRestored, kNoRestore};
  return bytes.size() >= 4 && std::ranges::find(kMagics, bytes.at<u32>(0)) != std::end(kMagics);
}

Result<VmwareState> read_vmware_state(ByteView bytes) {
  return Reader(bytes).read();
}

}  // namespace unhang::dump
