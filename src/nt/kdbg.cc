#include "nt/kdbg.h"

#include <bit>
#include <cstring>

#include "memory/read.h"

namespace unhang::nt {

namespace {

constexpr u32 kTag = 0x4742444B;  // "KDBG"
constexpr u64 kLeastSize = 0x290, kMostSize = 0x600;

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

// "KDBG" in nt's sections, 16 bytes into a block that names this kernel's base. It lies in writable data,
// which is searched first; images made by other linkers have been seen to keep it elsewhere.
std::optional<Kdbg> scan(const Source<VirtAddr>& kernel, const Module& nt) {
  if (nt.image() == nullptr) return std::nullopt;
  for (const bool writable : {true, false})
    for (const image::Section& section : nt.image()->sections()) {
      if (section.writable() != writable || section.size > (u64{64} << 20)) continue;
      const auto data = memory::read_sparse(kernel, nt.base() + section.rva.value(), section.size);
      const ByteView b(data.bytes);
      const std::string_view text(reinterpret_cast<const char*>(b.data()), b.size());
      for (size_t at = text.find("KDBG"); at != text.npos; at = text.find("KDBG", at + 4)) {
        if (at < 16 || !valid(b.from(at - 16), nt.base())) continue;
        const VirtAddr va = nt.base() + section.rva.value() + (at - 16);
        return cut(read_block(kernel, va), va, nt.base(), "scan of nt's data");
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
  return scan(kernel, nt);
}

}  // namespace unhang::nt
