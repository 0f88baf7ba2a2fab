#include "other_forms.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "dump/writers/copy_memory.h"

namespace unhang::dump {

namespace {

class Bytes {
 public:
  template <class T>
  void put(u64 at, T value) {
    put(at, ByteView(&value, sizeof value));
  }
  void put(u64 at, ByteView v) {
    if (bytes.size() < at + v.size()) bytes.resize(at + v.size());
    std::memcpy(bytes.data() + at, v.data(), v.size());
  }
  void put_be(u64 at, u64 value, int size) {
    for (int i = 0; i < size; i++)
      put(at + static_cast<u64>(i), static_cast<u8>(value >> (8 * (size - 1 - i))));
  }
  void be(u64 value, int size) { put_be(bytes.size(), value, size); }
  void text(std::string_view s) { put(bytes.size(), ByteView(s.data(), s.size())); }
  void name(std::string_view s) {
    be(s.size(), 1);
    text(s);
  }
  std::vector<u8> bytes;
};

u64 blocks(u64 size) {
  return (size + kPageSize - 1) >> kPageShift;
}

ByteView notes_of(ByteView elf) {
  const u64 phoff = elf.at<u64>(32);
  for (u64 i = 0; i < elf.at<u16>(56); i++)
    if (const u64 at = phoff + i * 56; elf.at<u32>(at) == 4)
      return elf.sub(elf.at<u64>(at + 8), elf.at<u64>(at + 32)).value_or(ByteView());
  return {};
}

// Calls f(pfn, page) for each whole page.
template <class F>
void each_page(const DumpFile& d, F&& f) {
  for (const PhysRange& r : whole_pages(d.physical->ranges()))
    for (PhysAddr pa = r.start; pa < r.end(); pa += kPageSize) {
      std::array<u8, kPageSize> page{};
      for (u64 have = 0; have < kPageSize;) {
        const auto slice = d.physical->at(pa + have);
        if (!slice) return;
        std::memcpy(page.data() + have, slice->data, slice->size);
        have += slice->size;
      }
      f(pa.value() >> kPageShift, page);
    }
}

bool zeros(const std::array<u8, kPageSize>& page) {
  return std::ranges::all_of(page, [](u8 b) { return b == 0; });
}

// Section "cpu", version 12: the part that never changed.
Bytes cpu_section(const CpuState& c) {
  Bytes b;
  for (u64 i = 0; i < 16; i++) b.put_be(i * 8, c.gpr[i], 8);
  b.put_be(128, c.rip, 8);
  b.put_be(136, c.rflags, 8);
  const Segment* const segments[] = {&c.es, &c.cs, &c.ss, &c.ds, &c.fs, &c.gs, &c.ldt, &c.tr, &c.gdt, &c.idt};
  for (u64 i = 0; i < std::size(segments); i++) {
    const u64 at = 236 + i * 20;
    b.put_be(at, segments[i]->selector, 4);
    b.put_be(at + 4, segments[i]->base, 8);
    b.put_be(at + 12, segments[i]->limit, 4);
    b.put_be(at + 16, segments[i]->flags, 4);
  }
  b.put_be(456, c.cr0, 8);
  b.put_be(464, c.cr2, 8);
  b.put_be(472, c.cr3, 8);
  b.put_be(480, c.cr4, 8);
  b.put_be(856, c.kernel_gs_base.value_or(0), 8);
  b.bytes.resize(1850);
  return b;
}

}  // namespace

std::vector<u8> kdump_of(const File& elf, const DumpFile& d) {
  const ByteView notes = notes_of(elf.bytes());
  const u64 pages = blocks(d.physical->ranges().back().end().value());
  const u64 sub = blocks(104 + notes.size()), map = blocks((pages + 7) / 8);
  const u64 first_map = (1 + sub) * kPageSize, second_map = first_map + map * kPageSize;
  const u64 descriptors = second_map + map * kPageSize;
  Bytes b;
  b.put(0, ByteView("KDUMP   ", 8));
  b.put(8, u32{6});
  b.put(272, ByteView("x86_64", 6));
  b.put(424, u32{1});
  b.put(428, static_cast<u32>(kPageSize));
  b.put(432, static_cast<u32>(sub));
  b.put(436, static_cast<u32>(2 * map));
  b.put(440, static_cast<u32>(pages));
  b.put(kPageSize + 48, u64{0x1068});
  b.put(kPageSize + 56, u64{notes.size()});
  b.put(kPageSize + 96, pages);
  b.put(0x1068, notes);
  u64 stored = 0;
  for (const PhysRange& r : whole_pages(d.physical->ranges())) stored += r.size >> kPageShift;
  const u64 zero_page = descriptors + stored * 24;
  b.put(zero_page, ByteView(std::vector<u8>(kPageSize).data(), kPageSize));
  u64 at = descriptors, data = zero_page + kPageSize;
  each_page(d, [&](u64 pfn, const std::array<u8, kPageSize>& page) {
    for (const u64 bits : {first_map, second_map}) {
      const u64 byte = bits + pfn / 8;
      b.put(byte, static_cast<u8>(ByteView(b.bytes).at<u8>(byte) | 1U << (pfn % 8)));
    }
    std::vector<u8> packed(compressBound(kPageSize));
    uLongf size = packed.size();
    compress2(packed.data(), &size, page.data(), kPageSize, 1);
    if (zeros(page)) {
      b.put(at, zero_page);
      b.put(at + 8, static_cast<u32>(kPageSize));
    } else if (size >= kPageSize) {
      b.put(at, data);
      b.put(at + 8, static_cast<u32>(kPageSize));
      b.put(data, ByteView(page.data(), kPageSize));
      data += kPageSize;
    } else {
      b.put(at, data);
      b.put(at + 8, static_cast<u32>(size));
      b.put(at + 12, u32{1});
      b.put(data, ByteView(packed.data(), size));
      data += size;
    }
    at += 24;
  });
  return std::move(b.bytes);
}

std::vector<u8> flattened_of(const std::vector<u8>& kdump) {
  constexpr u64 kChunk = 16384;
  Bytes b;
  b.text("makedumpfile");
  b.put_be(16, 1, 8);
  b.put_be(24, 1, 8);
  b.bytes.resize(4096);
  for (const u64 begin : {kChunk, u64{0}})
    for (u64 at = begin; at < kdump.size(); at += 2 * kChunk) {
      const u64 size = std::min<u64>(kChunk, kdump.size() - at);
      b.be(at, 8);
      b.be(size, 8);
      b.put(b.bytes.size(), ByteView(kdump.data() + at, size));
    }
  b.be(~u64{0}, 8);
  b.be(~u64{0}, 8);
  return std::move(b.bytes);
}

std::vector<u8> migration_of(const DumpFile& d) {
  constexpr std::string_view kMachine = "pc-i440fx-7.2";
  constexpr u64 kMemSize = 4, kZero = 2, kPage = 8, kContinue = 0x20, kEos = 0x10;
  const u64 size = d.physical->ranges().back().end().value() & ~(kPageSize - 1);
  Bytes b;
  b.text("QEVM");
  b.be(3, 4);
  b.be(7, 1);
  b.be(kMachine.size(), 4);
  b.text(kMachine);
  const auto footer = [&](u64 id) {
    b.be(0x7e, 1);
    b.be(id, 4);
  };
  b.be(1, 1);
  b.be(2, 4);
  b.name("ram");
  b.be(0, 4);
  b.be(4, 4);
  b.be(size | kMemSize, 8);
  b.name("pc.ram");
  b.be(size, 8);
  b.be(kEos, 8);
  footer(2);
  b.be(3, 1);
  b.be(2, 4);
  bool first = true;
  each_page(d, [&](u64 pfn, const std::array<u8, kPageSize>& page) {
    const bool zero = zeros(page);
    b.be(pfn << kPageShift | (zero ? kZero : kPage) | (first ? 0 : kContinue), 8);
    if (first) b.name("pc.ram");
    first = false;
    if (zero)
      b.be(0, 1);
    else
      b.put(b.bytes.size(), ByteView(page.data(), kPageSize));
  });
  b.be(kEos, 8);
  footer(2);
  for (u64 i = 0; i < d.cpus.size(); i++) {
    b.be(4, 1);
    b.be(10 + i, 4);
    b.name("cpu");
    b.be(i, 4);
    b.be(12, 4);
    const Bytes body = cpu_section(d.cpus[i]);
    b.put(b.bytes.size(), ByteView(body.bytes.data(), body.bytes.size()));
    footer(10 + i);
  }
  b.be(0, 1);
  return std::move(b.bytes);
}

}  // namespace unhang::dump
