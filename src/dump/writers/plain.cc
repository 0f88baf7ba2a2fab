// ELF cores and raw memory: forms that other tools read.
#include <cstring>

#include "base/format.h"
#include "dump/writers/writers.h"

namespace unhang::dump {

namespace {

constexpr u64 kElfHeader = 64, kProgramHeader = 56, kSectionHeader = 64;
constexpr u16 kPnXnum = 0xFFFF;
constexpr size_t kPrstatus = 336, kQemuState = 440;

class Bytes {
 public:
  template <class T>
  void add(T value) {
    const auto* p = reinterpret_cast<const u8*>(&value);
    bytes_.insert(bytes_.end(), p, p + sizeof value);
  }
  void add(std::span<const u8> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void pad(size_t to) { bytes_.resize(std::max(to, bytes_.size())); }
  size_t size() const { return bytes_.size(); }
  std::span<const u8> span() const { return bytes_; }

 private:
  std::vector<u8> bytes_;
};

void add_note(Bytes& out, std::string_view name, u32 type, std::span<const u8> desc) {
  out.add(static_cast<u32>(name.size() + 1));
  out.add(static_cast<u32>(desc.size()));
  out.add(type);
  out.add(std::span(reinterpret_cast<const u8*>(name.data()), name.size()));
  out.pad((out.size() + 4) & ~size_t{3});
  out.add(desc);
  out.pad((out.size() + 3) & ~size_t{3});
}

// elf_prstatus of x86-64: registers at 112 in the order of struct user_regs_struct.
std::vector<u8> prstatus(const CpuState& c, u32 number) {
  std::vector<u8> d(kPrstatus);
  auto put = [&](size_t at, auto v) { std::memcpy(d.data() + at, &v, sizeof v); };
  put(32, number + 1);  // pr_pid, as QEMU numbers them
  constexpr Gpr kOrder[] = {r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi};
  for (size_t i = 0; i < 15; i++) put(112 + i * 8, c.gpr[kOrder[i]]);
  const u64 rest[] = {c.rip,     c.cs.selector, c.rflags,      c.gpr[rsp],    c.ss.selector, c.fs.base,
                      c.gs.base, c.ds.selector, c.es.selector, c.fs.selector, c.gs.selector};
  for (size_t i = 0; i < std::size(rest); i++) put(112 + (16 + i) * 8, rest[i]);
  return d;
}

// QEMUCPUState (FORMATS 1.2).
std::vector<u8> qemu_state(const CpuState& c) {
  std::vector<u8> d(kQemuState);
  auto put = [&](size_t at, auto v) { std::memcpy(d.data() + at, &v, sizeof v); };
  put(0, u32{1});
  put(4, static_cast<u32>(kQemuState));
  constexpr Gpr kOrder[] = {rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15};
  for (size_t i = 0; i < 16; i++) put(8 + i * 8, c.gpr[kOrder[i]]);
  put(136, c.rip);
  put(144, c.rflags);
  const Segment* segments[] = {&c.cs, &c.ds, &c.es, &c.fs, &c.gs, &c.ss, &c.ldt, &c.tr, &c.gdt, &c.idt};
  for (size_t i = 0; i < std::size(segments); i++) {
    put(152 + i * 24, u32{segments[i]->selector});
    put(156 + i * 24, segments[i]->limit);
    put(160 + i * 24, segments[i]->flags);
    put(168 + i * 24, segments[i]->base);
  }
  const u64 control[] = {c.cr0, 0, c.cr2, c.cr3, c.cr4};
  for (size_t i = 0; i < std::size(control); i++) put(392 + i * 8, control[i]);
  put(432, c.kernel_gs_base.value_or(0));
  return d;
}

}  // namespace

Result<Written> write_elf_core(const std::string& path, const PageSource<PhysAddr>& source,
                               std::span<const PhysRange> ranges, std::span<const CpuState> cpus,
                               const Progress& progress) {
  Bytes notes;
  for (size_t i = 0; i < cpus.size(); i++) add_note(notes, "CORE", 1, prstatus(cpus[i], static_cast<u32>(i)));
  for (const CpuState& c : cpus)
    if (c.has_control) add_note(notes, "QEMU", 0, qemu_state(c));

  const u64 headers = ranges.size() + 1;
  const bool many = headers >= kPnXnum;
  const u64 sections = many ? 1 : 0;
  const u64 phoff = kElfHeader + sections * kSectionHeader, notes_at = phoff + headers * kProgramHeader;
  u64 offset = (notes_at + notes.size() + kPageSize - 1) & ~(kPageSize - 1);
  Bytes h;
  h.add(std::span(reinterpret_cast<const u8*>("\x7f"
                                              "ELF\2\1\1\0\0\0\0\0\0\0\0\0"),
                  16));
  h.add(u16{4});   // ET_CORE
  h.add(u16{62});  // x86-64
  h.add(u32{1});
  h.add(u64{0});
  h.add(phoff);
  h.add(many ? kElfHeader : u64{0});
  h.add(u32{0});
  h.add(static_cast<u16>(kElfHeader));
  h.add(static_cast<u16>(kProgramHeader));
  h.add(many ? kPnXnum : static_cast<u16>(headers));
  h.add(static_cast<u16>(many ? kSectionHeader : 0));
  h.add(static_cast<u16>(sections));
  h.add(u16{0});
  if (many) {
    h.pad(kElfHeader + 44);
    h.add(static_cast<u32>(headers));  // sh_info of section 0
    h.pad(phoff);
  }
  auto program = [&](u32 type, u64 at, u64 pa, u64 size) {
    h.add(type);
    h.add(u32{0});
    h.add(at);
    h.add(u64{0});
    h.add(pa);
    h.add(size);
    h.add(size);
    h.add(u64{0});
  };
  program(4, notes_at, 0, notes.size());
  std::vector<Placed> placed;
  for (const PhysRange& r : ranges) {
    program(1, offset, r.start.value(), r.size);
    placed.push_back({r, offset});
    offset += r.size;
  }
  h.add(notes.span());

  OutputFile out = TRY(OutputFile::create(path));
  TRY_VOID(out.set_size(offset));
  TRY_VOID(out.write(0, h.span()));
  // By itself: a TRY that returns from inside of an initializer leaks what was made before it (GCC 12).
  const Copied copied = TRY(copy_memory(source, placed, {}, out, progress));
  Written w{.what = fmt::format("ELF core with the registers of {}",
                                counted(cpus.size(), "processor", "processors")),
            .file_size = offset,
            .pages = 0,
            .copied = copied};
  w.pages = w.copied.bytes >> kPageShift;
  TRY_VOID(out.commit());
  return w;
}

Result<Written> write_raw(const std::string& path, const PageSource<PhysAddr>& source,
                          std::span<const PhysRange> ranges, const Progress& progress) {
  if (ranges.empty()) return fail(Error{.why = Why::unsupported, .detail = "there is no memory to write"});
  if (ranges.back().end() > kEndOfMemory) return fail(beyond_memory());
  std::vector<Placed> placed;
  for (const PhysRange& r : ranges) placed.push_back({r, r.start.value()});
  const u64 size = ranges.back().end().value();
  OutputFile out = TRY(OutputFile::create(path));
  TRY_VOID(out.set_size(size));
  const Copied copied = TRY(copy_memory(source, placed, {}, out, progress));
  Written w{.what = "raw memory", .file_size = size, .pages = 0, .copied = copied};
  w.pages = w.copied.bytes >> kPageShift;
  TRY_VOID(out.commit());
  return w;
}

}  // namespace unhang::dump
