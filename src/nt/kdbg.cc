#include "nt/kdbg.h"

#include <bit>
#include <cstring>

#include "memory/read.h"

namespace unhang::nt {

namespace {

constexpr u32 kTag = 0x4742444B;  // "KDBG"
constexpr u64 kLeastSize = 0x290, kMostSize = 0x600;

// Where the kernel lies, and which parts of it may hold the block.
struct Part {
  VirtAddr start{};
  u64 size = 0;
  bool writable = true;
};
struct Extent {
  VirtAddr base{};
  u64 size = 0;
  std::vector<Part> parts;
  bool contains(VirtAddr va) const { return va - base < size; }
};

// All of it where the header with the sections is missing.
Extent extent_of(const Module& nt) {
  if (nt.image() == nullptr) return {nt.base(), kMostKernelImage, {{nt.base(), kMostKernelImage, true}}};
  Extent out{nt.base(), nt.size(), {}};
  for (const image::Section& section : nt.image()->sections())
    if (section.size <= (u64{64} << 20))
      out.parts.push_back({nt.base() + section.rva.value(), section.size, section.writable()});
  return out;
}

bool valid(ByteView b, VirtAddr kernel_base) {
  const u32 size = b.at<u32>(0x14);
  return b.at<u32>(0x10) == kTag && size >= kLeastSize && size <= kMostSize &&
         b.at<u64>(0x18) == kernel_base.value();
}

std::vector<u8> read_block(const Source<VirtAddr>& kernel, VirtAddr va) {
  std::vector<u8> bytes(kMostSize);
  bytes.resize(memory::read_some(kernel, va, std::span<u8>(bytes)).size & ~u64{7});
  return bytes;
}

std::optional<Kdbg> cut(std::vector<u8> bytes, VirtAddr va, VirtAddr base, std::string how) {
  const ByteView b(bytes.data(), bytes.size());
  if (!valid(b, base)) return std::nullopt;
  bytes.resize(std::min<u64>(bytes.size(), b.at<u32>(0x14)));
  return Kdbg(std::move(bytes), va, std::move(how));
}

// Windows 8 and later keep the block encoded unless a debugger was enabled at boot. Three values undo it, for
// each 8 bytes (described by many forensics tools; QEMU's contrib/elf2dmp does the same).
std::optional<Kdbg> decode(const Source<VirtAddr>& kernel, VirtAddr va, const Module& nt) {
  const auto never_at = nt.find("KiWaitNever"), always_at = nt.find("KiWaitAlways"),
             encoded_at = nt.find("KdpDataBlockEncoded");
  if (!never_at || !always_at || !encoded_at) return std::nullopt;
  const auto never = memory::read<u64>(kernel, *never_at), always = memory::read<u64>(kernel, *always_at);
  if (!never || !always) return std::nullopt;
  std::vector<u8> bytes = read_block(kernel, va);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    u64 x = 0;
    std::memcpy(&x, &bytes[i], 8);
    x = std::rotl(x ^ *never, static_cast<int>(*never & 0xff));
    x = __builtin_bswap64(x ^ encoded_at->value()) ^ *always;
    std::memcpy(&bytes[i], &x, 8);
  }
  return cut(std::move(bytes), va, nt.base(), "symbol KdDebuggerDataBlock, decoded");
}

// Places that a "KDBG" 16 bytes further on would make the start of a block.
std::vector<u64> tags(ByteView b) {
  std::vector<u64> out;
  const std::string_view text(reinterpret_cast<const char*>(b.data()), b.size());
  for (size_t at = text.find("KDBG"); at != text.npos; at = text.find("KDBG", at + 4))
    if (at >= 16) out.push_back(at - 16);
  return out;
}

// "KDBG" in nt's sections, 16 bytes into a block that names this kernel's base. It lies in writable data,
// which is searched first; images made by other linkers have been seen to keep it elsewhere.
std::optional<Kdbg> scan(const Source<VirtAddr>& kernel, const Extent& nt) {
  for (const bool writable : {true, false})
    for (const Part& part : nt.parts) {
      if (part.writable != writable) continue;
      const auto data = memory::read_sparse(kernel, part.start, part.size);
      const ByteView b(data.bytes);
      for (const u64 at : tags(b))
        if (valid(b.from(at), nt.base))
          return cut(read_block(kernel, part.start + at), part.start + at, nt.base, "scan of nt's data");
    }
  return std::nullopt;
}

// Decoding without any symbol. The encoding turns each 8 bytes x into bswap(rotl(x, k)) ^ c with one k and
// one c for the whole block, whatever KiWaitNever, KiWaitAlways and the flag's address are. The field
// KernBase is known, so for each of the 64 values of k it gives c, and the tag, the size and three pointers
// into nt tell whether k is right.
class Undo {
 public:
  Undo(u64 encoded, u64 plain, int k) : k_(k), c_(turn(encoded) ^ plain) {}
  u64 operator()(u64 x) const { return turn(x) ^ c_; }

 private:
  u64 turn(u64 x) const { return __builtin_bswap64(std::rotl(x, k_)); }
  int k_;
  u64 c_;
};

std::optional<Undo> undo_at(ByteView b, u64 at, const Extent& nt) {
  const u64 tag = b.at<u64>(at + 0x10), base = b.at<u64>(at + 0x18);
  for (int k = 0; k < 64; k++) {
    const Undo undo(base, nt.base.value(), k);
    const u64 v = undo(tag);
    if (static_cast<u32>(v) != kTag || v >> 32 < kLeastSize || v >> 32 > kMostSize) continue;
    bool inside = true;
    for (const u32 field : {Kdbg::kPsLoadedModuleList, Kdbg::kPsActiveProcessHead, Kdbg::kKiProcessorBlock})
      inside &= nt.contains(VirtAddr(undo(b.at<u64>(at + field))));
    if (inside) return undo;
  }
  return std::nullopt;
}

// The block is nearly always alone on its list, so its first two fields are equal, encoded or not: most
// places need no trial at all.
bool worth_a_trial(ByteView b, u64 at, bool alone) {
  return b.at<u64>(at + 0x18) != 0 && (b.at<u64>(at) == b.at<u64>(at + 8)) == alone;
}

std::optional<Kdbg> decode_by_kernel_base(const Source<VirtAddr>& kernel, const Extent& nt) {
  // Only when the easy places have nothing are all of them tried.
  for (const bool alone : {true, false})
    for (const Part& part : nt.parts) {
      if (!part.writable) continue;
      const auto data = memory::read_sparse(kernel, part.start, part.size);
      const ByteView b(data.bytes);
      for (u64 at = 0; at + kLeastSize <= b.size(); at += 8) {
        if (!worth_a_trial(b, at, alone)) continue;
        const auto undo = undo_at(b, at, nt);
        if (!undo) continue;
        std::vector<u8> bytes = read_block(kernel, part.start + at);
        for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
          u64 x = 0;
          std::memcpy(&x, &bytes[i], 8);
          x = (*undo)(x);
          std::memcpy(&bytes[i], &x, 8);
        }
        return cut(std::move(bytes), part.start + at, nt.base,
                   "scan of nt's data, decoded by the kernel base in it");
      }
    }
  return std::nullopt;
}

}  // namespace

VirtAddr Kdbg::pointer(u32 field) const {
  const VirtAddr va(view().at<u64>(field));
  return is_kernel(va) ? va : VirtAddr();
}

std::optional<Kdbg> find_kdbg(const dump::DumpFile& dump, const Source<VirtAddr>& kernel, const Module& nt) {
  if (!dump.kdbg.empty())
    if (auto k = cut(dump.kdbg, VirtAddr(), nt.base(), "copy in the dump")) return k;
  const auto symbol = nt.find("KdDebuggerDataBlock");
  if (symbol) {
    if (auto k = cut(read_block(kernel, *symbol), *symbol, nt.base(), "symbol KdDebuggerDataBlock")) return k;
    if (auto k = decode(kernel, *symbol, nt)) return k;
  }
  if (dump.header) {
    const VirtAddr at = dump.header->kd_debugger_data_block;
    if (auto k = cut(read_block(kernel, at), at, nt.base(), "Windows dump header")) return k;
    // fwcfg64 puts the address of a decoded copy into the first bug check parameter (FORMATS 1.2).
    const VirtAddr copy(dump.header->bug_check_parameters[0]);
    if (is_kernel(copy))
      if (auto k =
              cut(read_block(kernel, copy), copy, nt.base(), "decoded copy left by the guest's fwcfg driver"))
        return k;
  }
  const Extent extent = extent_of(nt);
  if (auto k = scan(kernel, extent)) return k;
  return decode_by_kernel_base(kernel, extent);
}

std::optional<VirtAddr> kernel_base_by_kdbg(const Source<VirtAddr>& kernel, VirtAddr inside) {
  const VirtAddr page = inside.page();
  if (page < VirtAddr(kMostKernelImage) || page + kMostKernelImage < page) return std::nullopt;
  const VirtAddr start = page - kMostKernelImage;
  const auto data = memory::read_sparse(kernel, start, 2 * kMostKernelImage);
  const ByteView b(data.bytes);
  const auto whole = [](VirtAddr base) { return Extent{base, kMostKernelImage, {}}; };
  for (const u64 at : tags(b)) {
    const Extent nt = whole(VirtAddr(b.at<u64>(at + Kdbg::kKernBase)));
    if (nt.base.page_offset() == 0 && valid(b.from(at), nt.base) && nt.contains(inside) &&
        nt.contains(VirtAddr(b.at<u64>(at + Kdbg::kPsLoadedModuleList))) &&
        nt.contains(VirtAddr(b.at<u64>(at + Kdbg::kPsActiveProcessHead))))
      return nt.base;
  }
  // Encoded, it does not say which base: that is a page that is missing from the dump, or one whose image
  // lacks its names.
  constexpr size_t kMostBases = 16;
  std::vector<VirtAddr> bases;
  for (VirtAddr base = start + kPageSize; base <= page; base += kPageSize) {
    const auto mz = memory::read<u16>(kernel, base);
    if (mz ? *mz == 0x5a4d : mz.error().why == Why::not_in_dump) bases.push_back(base);
  }
  if (bases.size() > kMostBases) return std::nullopt;
  u64 trials = 1 << 22;  // a page full of one value is worth 512 of them
  for (const VirtAddr base : bases)
    for (u64 at = 0; at + kLeastSize <= b.size(); at += 8) {
      if (!worth_a_trial(b, at, true)) continue;
      if (undo_at(b, at, whole(base))) return base;
      if (--trials == 0) return std::nullopt;
    }
  return std::nullopt;
}

}  // namespace unhang::nt
