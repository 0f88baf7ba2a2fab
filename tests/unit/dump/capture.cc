#include "capture.h"

#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/format.h"
#include "base/xz.h"

namespace unhang::dump {

namespace {

namespace fs = std::filesystem;

struct TempFolder {
  fs::path path = fs::temp_directory_path() / fmt::format("unhang-captures-{}", getpid());
  TempFolder() { fs::create_directories(path); }
  ~TempFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

// Zero blocks become holes, so that 128 MiB of a nearly empty guest cost 2 MiB.
void write_sparse(const fs::path& path, const std::vector<u8>& bytes) {
  std::ofstream out(path, std::ios::binary);
  constexpr size_t kBlock = 65536;
  static const std::array<u8, kBlock> kZeros{};
  for (size_t at = 0; at < bytes.size(); at += kBlock) {
    const size_t n = std::min(kBlock, bytes.size() - at);
    if (std::memcmp(bytes.data() + at, kZeros.data(), n) == 0) continue;
    out.seekp(static_cast<std::streamoff>(at));
    out.write(reinterpret_cast<const char*>(bytes.data() + at), static_cast<std::streamsize>(n));
  }
  out.close();
  fs::resize_file(path, bytes.size());
}

u64 pattern(u64 cpu, u64 low) {
  return cpu << 56 | 0x0011223344550000 | low;
}

}  // namespace

std::string capture_path(const std::string& name) {
  static const TempFolder folder;
  static std::map<std::string, std::string> known;
  if (auto it = known.find(name); it != known.end()) return it->second;
  const std::string packed = fmt::format("{}/../shared/data/captures/{}.xz", UNHANG_SOURCE_DIR, name);
  const auto file = File::open(packed);
  if (!file) return known[name] = "";
  const auto bytes = unpack_xz((*file)->bytes(), u64{1} << 30);
  if (!bytes) return known[name] = "";
  write_sparse(folder.path / name, *bytes);
  return known[name] = folder.path / name;
}

std::shared_ptr<const File> capture(const std::string& name) {
  auto file = File::open(capture_path(name));
  return file ? *file : nullptr;
}

std::shared_ptr<const File> cut(const File& file, u64 size) {
  const auto s = file.bytes().span().first(std::min<u64>(size, file.size()));
  return File::from_bytes({s.begin(), s.end()}, file.path());
}

std::shared_ptr<const File> patched(const File& file, u64 offset, const void* data, size_t size) {
  const auto s = file.bytes().span();
  std::vector<u8> bytes(s.begin(), s.end());
  std::memcpy(bytes.data() + offset, data, size);
  return File::from_bytes(std::move(bytes), file.path());
}

void expect_registers(const DumpFile& dump, bool rich) {
  ASSERT_EQ(dump.cpus.size(), 2u);
  for (u64 n = 0; n < 2; n++) {
    SCOPED_TRACE(fmt::format("cpu {}", n));
    const CpuState& c = dump.cpus[n];
    const std::pair<Gpr, u64> values[] = {{rax, 0x0a0a}, {rbx, 0x0b0b}, {rcx, 0x0c0c}, {rdx, 0x0d0d},
                                          {rsi, 0x0e0e}, {rdi, 0x0f0f}, {rbp, 0x1010}, {r8, 0x0808},
                                          {r9, 0x0909},  {r10, 0x1a1a}, {r11, 0x1b1b}, {r12, 0x1c1c},
                                          {r13, 0x1d1d}, {r14, 0x1e1e}};
    for (const auto& [reg, low] : values) EXPECT_EQ(c.gpr[reg], pattern(n, low)) << int{reg};
    EXPECT_EQ(c.gpr[r15], n << 56 | 0x1f1f);
    EXPECT_EQ(c.gpr[rsp], n == 0 ? 0x90000u : 0x99000u);
    EXPECT_TRUE(c.rip == 0x100266 || c.rip == 0x100268) << hex(c.rip);
    EXPECT_TRUE(c.has_control);
    EXPECT_TRUE(c.long_mode());
    EXPECT_EQ(c.cr3, 0x200000u);
    EXPECT_EQ(c.gs.base, 0xffffff8000500000 + n * 0x10000);
    EXPECT_EQ(c.kernel_gs_base, 0x7ff600500000 + n * 0x10000);
    EXPECT_EQ(c.idt.base, 0x210000u);
    EXPECT_EQ(c.cpl(), 0);
    ASSERT_EQ(c.xmm.has_value(), rich);
    if (!rich) continue;
    EXPECT_EQ((*c.xmm)[0].low, c.gpr[rax]);
    EXPECT_EQ((*c.xmm)[6].low, c.gpr[rbx]);
    EXPECT_EQ((*c.xmm)[15].low, c.gpr[r14]);
    EXPECT_EQ(c.halted, false);
    EXPECT_TRUE(c.efer && (*c.efer & 0x500) == 0x500);  // LME and LMA
    EXPECT_TRUE(c.lstar && c.dr && c.mxcsr && c.cr8);
  }
}

Compared expect_same_memory(const DumpFile& dump) {
  Compared out;
  const auto elf = open_dump(capture("qmp-elf.elf")),
             crash = open_dump(capture("virsh-memory-only.win-dmp.dmp"));
  const auto saved = open_dump(capture("virsh-save-gzip.libvirt")),
             dumped = open_dump(capture("virsh-dump-plain.gzip"));
  EXPECT_TRUE(elf && crash && saved && dumped);
  if (!elf || !crash || !saved || !dumped || !dump.physical) return out;
  const auto equal = [](const Result<Slice>& a, const Result<Slice>& b) {
    return a && b && a->size == b->size && std::memcmp(a->data, b->data, a->size) == 0;
  };
  for (PhysAddr pa{}; pa < PhysAddr(128 << 20); pa += kPageSize) {
    const auto a = elf->physical->at(pa), b = dump.physical->at(pa);
    if (!a && !b) continue;
    if (!b) out.missing++;
    if (!a) out.extra++;
    if (!a || !b) continue;
    if (equal(a, b)) {
      out.same++;
    } else if (equal(crash->physical->at(pa), b)) {
      out.other_boot++;
    } else if (pa == PhysAddr(0xe8000) || pa == PhysAddr(0xf5000) || pa == PhysAddr(0xff000)) {
      out.other_boot++;  // BIOS shadow, which the Windows dump leaves out
    } else if (equal(saved->physical->at(pa), b) && equal(dumped->physical->at(pa), b)) {
      out.other_boot++;
    } else {
      ADD_FAILURE() << "page " << hex(pa) << " differs";
    }
  }
  // Pages with a number of their own are really there, not only equal in being empty.
  const auto page = dump.physical->at(PhysAddr(0x1000000 + 300 * kPageSize));
  EXPECT_EQ(page ? ByteView(page->data, page->size).at<u64>(0) : 0, 0x1000u + 300);
  return out;
}

bool survives(const std::shared_ptr<const File>& file, const std::string& what) {
  const auto dump = open_dump(file);
  if (!dump) {
    const std::string sentence = text(dump.error());
    EXPECT_TRUE(dump.error().why == Why::bad_file || dump.error().why == Why::unsupported ||
                dump.error().why == Why::limit)
        << what << ": " << sentence;
    EXPECT_FALSE(sentence.empty()) << what;
    EXPECT_EQ(sentence.find('\n'), std::string::npos) << what;
    return false;
  }
  if (!dump->physical) return true;
  u64 reads = 0;
  for (const PhysRange& r : dump->physical->ranges()) {
    const u64 step = std::max<u64>(kPageSize, (r.size / 257) & ~(kPageSize - 1));
    for (u64 at = 0; at < r.size && reads < 2000; at += step, reads++) {
      const auto slice = dump->physical->at(r.start + at);
      if (slice) {
        EXPECT_TRUE(slice->size >= 1 && slice->size <= kPageSize) << what;
        volatile u8 touched = slice->data[0];
        touched = slice->data[slice->size - 1];
        (void)touched;
      } else {
        EXPECT_FALSE(text(slice.error()).empty()) << what;
      }
      (void)dump->physical->file_offset(r.start + at);
    }
    dump->physical->will_read(r);
  }
  return true;
}

}  // namespace unhang::dump
