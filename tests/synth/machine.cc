// Its memory, modules and symbols, and the dump made of them.
#include "synth/machine.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "nt/bootstrap.h"
#include "symbols/builtin.h"

namespace unhang::synth {

namespace {

// Data of nt that the tool looks for by name. Those marked are exported by real kernels.
struct KernelData {
  const char* name;
  u32 size;
  bool exported;
};
constexpr KernelData kKernelData[] = {{"PsLoadedModuleList", 16, true},
                                      {"PsActiveProcessHead", 16, false},
                                      {"PsInitialSystemProcess", 8, true},
                                      {"PsIdleProcess", 8, false},
                                      {"ExpSystemResourcesList", 16, false},
                                      {"KiProcessorBlock", 8 * 64, false},
                                      {"KeNumberProcessors", 4, true},
                                      {"KeMaximumIncrement", 4, false},
                                      {"KeTimeIncrement", 4, false},
                                      {"ObpRootDirectoryObject", 8, false},
                                      {"ObTypeIndexTable", 8 * 64, false},
                                      {"ObpTypeObjectType", 8, false},
                                      {"PspCidTable", 8, false},
                                      {"IoFileObjectType", 8, true},
                                      {"PsProcessType", 8, true},
                                      {"PsThreadType", 8, true},
                                      {"ExEventObjectType", 8, true},
                                      {"NtBuildNumber", 4, true},
                                      {"NtBuildLab", 64, false},
                                      {"MmPfnDatabase", 8, false},
                                      {"KiBugCheckData", 40, false},
                                      {"KiWaitNever", 8, false},
                                      {"KiWaitAlways", 8, false},
                                      {"KdpDataBlockEncoded", 1, false},
                                      {"KdDebuggerDataBlock", 0x380, false},
                                      {"MmPhysicalMemoryBlock", 8, false}};

}  // namespace

std::vector<std::string> build_names() {
  std::vector<std::string> names;
  for (const auto& layout : symbols::builtin_layouts()) names.push_back(layout->build());
  return names;
}

Machine::Machine(MachineOptions options)
    : options_(std::move(options)),
      layout_(symbols::builtin_layout(options_.build)),
      memory_(options_.levels),
      next_pool_(0xffffe000'10000000),
      next_stack_(0xfffff880'03c00000),
      next_module_(0xfffff880'01000000) {
  UNHANG_CHECK(layout_ != nullptr);
  if (layout_->find_type("_KTHREAD")->partial) neighbour_ = symbols::builtin_layout("10.0.22631.2428");
  pdb_ = {.name = "ntkrnlmp.pdb", .age = 1};
  for (size_t i = 0; i < 16; i++) pdb_.guid[i] = static_cast<u8>(0x11 * i + layout_->build_number());
  modules_.push_back(std::make_unique<ModuleInfo>(
      ModuleInfo{"ntoskrnl.exe", "nt", VirtAddr(0xfffff800'02a00000), ImageBuilder("ntoskrnl.exe", pdb_)}));
  ModuleInfo& nt = *modules_.front();
  for (const KernelData& d : kKernelData) nt.image.add_data(d.name, d.size, d.exported);
  has_cookie_ = layout_->build_number() >= 10240;
  if (has_cookie_) {
    nt.image.add_data("ObHeaderCookie", 1);
    cookie_ = 0x5c;
  }
  memory_.map(nt.base, nt.image.size());
  if (has_cookie_) memory_.put<u8>(symbol("ObHeaderCookie"), cookie_);
  for (const char* list : {"PsLoadedModuleList", "PsActiveProcessHead", "ExpSystemResourcesList"})
    init_list(symbol(list));
  memory_.put<u32>(symbol("KeMaximumIncrement"), kIncrement);
  memory_.put<u32>(symbol("KeTimeIncrement"), kIncrement);
  memory_.put<u32>(symbol("NtBuildNumber"), 0xF0000000 | layout_->build_number());
  const std::string lab = std::to_string(layout_->build_number()) + ".1.synthetic";
  memory_.write(symbol("NtBuildLab"), lab.c_str(), lab.size() + 1);

  const VirtAddr shared = memory_.map(nt::kUserSharedData, kPageSize);
  memory_.put<u32>(shared + 4, 0x0fa00000);                      // TickCountMultiplier: 15.625 ms
  memory_.put<u64>(shared + 8, u64{tick_count()} * kIncrement);  // InterruptTime
  memory_.put<u64>(shared + 0x14, 133'445'600'000'000'000);      // SystemTime
  const u16 root[] = {'C', ':', '\\', 'W', 'i', 'n', 'd', 'o', 'w', 's', 0};
  memory_.write(shared + 0x30, root, sizeof root);
  const u32 major = options_.build.starts_with("10.") ? 10 : 6;
  if (major == 10) memory_.put<u32>(shared + 0x260, layout_->build_number());
  memory_.put<u32>(shared + 0x26c, major);
  memory_.put<u64>(shared + 0x320, tick_count());

  make_types();
  idle_ = add_process("Idle", 0, std::nullopt, 0);
  system_ = add_process("System", 4, std::nullopt, 0);
  memory_.put(symbol("PsIdleProcess"), idle_);
  memory_.put(symbol("PsInitialSystemProcess"), system_);
  make_processors();
  make_devices();
}

// ---- raw structures ----

// A layout that lists only some types and members is completed by its neighbour.
std::optional<symbols::Field> Machine::field(const char* type, const char* path) const {
  auto f = unmoved_field(type, path);
  if (!f) return f;
  i32 by = 0;
  for (const MachineOptions::Moved& m : options_.moved)
    if (std::string_view(m.type) == type && f->offset >= m.from) by = m.by;
  f->offset = static_cast<u32>(static_cast<i64>(f->offset) + by);
  return f;
}

std::optional<symbols::Field> Machine::unmoved_field(const char* type, const char* path) const {
  const auto t = layout_->find_type(type);
  if (const auto f = layout_->field(type, path)) return *f;
  if (neighbour_ != nullptr && (!t || t->partial))
    if (const auto f = neighbour_->field(type, path)) return *f;
  return std::nullopt;
}

bool Machine::has(const char* type, const char* path) const {
  return field(type, path).has_value();
}

u32 Machine::offset(const char* type, const char* path) const {
  const auto f = field(type, path);
  UNHANG_CHECK(f.has_value());
  return f->offset;
}

u32 Machine::size(const char* type) const {
  auto t = layout_->find_type(type);
  if ((!t || t->size == 0) && neighbour_ != nullptr) t = neighbour_->find_type(type);
  UNHANG_CHECK(t.has_value() && t->size != 0);
  i32 by = 0;
  for (const MachineOptions::Moved& m : options_.moved)
    if (std::string_view(m.type) == type) by = std::max(by, m.by);
  return static_cast<u32>(t->size) + static_cast<u32>(by);
}

void Machine::set(VirtAddr object, const char* type, const char* path, u64 value) {
  const auto f = field(type, path);
  if (!f) return;
  const u32 bytes = f->size == 0 || f->size > 8 ? 8 : f->size;
  if (f->bit_length != 0) {
    const u64 mask = (f->bit_length >= 64 ? ~u64{0} : (u64{1} << f->bit_length) - 1) << f->bit_offset;
    u64 old = 0;
    old = memory_.get<u64>(object + f->offset);
    value = (old & ~mask) | (value << f->bit_offset & mask);
  }
  memory_.write(object + f->offset, &value, bytes);
}

u64 Machine::get(VirtAddr object, const char* type, const char* path) {
  const auto f = field(type, path);
  UNHANG_CHECK(f.has_value());
  const u64 v = memory_.get<u64>(object + f->offset);
  return f->size >= 8 || f->size == 0 ? v : v & ((u64{1} << (f->size * 8)) - 1);
}

VirtAddr Machine::alloc(u64 size) {
  // 16-byte pool header before each block, as NT's pool has.
  next_pool_ = VirtAddr((next_pool_.value() + 15) & ~u64{15}) + 16;
  const VirtAddr at = next_pool_;
  next_pool_ += size + 16;
  memory_.map(at - 16, size + 32);
  return at;
}

void Machine::init_list(VirtAddr head) {
  memory_.put(head, head);
  memory_.put(head + 8, head);
}

void Machine::insert_tail(VirtAddr head, VirtAddr entry) {
  const VirtAddr last = memory_.get<VirtAddr>(head + 8);
  memory_.put(entry, head);
  memory_.put(entry + 8, last);
  memory_.put(last, entry);
  memory_.put(head + 8, entry);
}

void Machine::set_string(VirtAddr string, const std::string& text) {
  std::vector<u16> wide(text.begin(), text.end());
  wide.push_back(0);
  const VirtAddr buffer = alloc(wide.size() * 2);
  memory_.write(buffer, wide.data(), wide.size() * 2);
  memory_.put<u16>(string, static_cast<u16>(text.size() * 2));
  memory_.put<u16>(string + 2, static_cast<u16>(text.size() * 2 + 2));
  memory_.put(string + 8, buffer);
}

// ---- modules and stacks ----

Machine::ModuleInfo& Machine::module(const std::string& name) {
  for (auto& m : modules_)
    if (m->name == name) return *m;
  add_module(name + ".sys");
  return *modules_.back();
}

VirtAddr Machine::add_module(const std::string& file, const Labels& functions) {
  const std::string name = file.substr(0, file.find_last_of('.'));
  auto m = std::make_unique<ModuleInfo>(ModuleInfo{file, name, next_module_, ImageBuilder(file, {})});
  next_module_ += 0x100000;
  memory_.map(m->base, m->image.size());
  for (const std::string& f : functions) m->image.add_function(f);
  modules_.push_back(std::move(m));
  return modules_.back()->base;
}

VirtAddr Machine::symbol(const std::string& name) {
  return modules_.front()->base + modules_.front()->image.rva_of(name);
}

namespace {
// Functions whose frame is special; everything else gets an ordinary one whose size depends on its name.
FunctionShape shape_of(const std::string& name) {
  if (name == "KiSystemServiceCopyEnd" || name == "KiInterruptDispatch" || name == "KiPageFault")
    return {.frame = 0x158, .push_rbp_frame = true, .machine_frame = true};
  if (name == "KxRetireDpcList") return {.frame = 0x28, .machine_frame = true};
  u32 h = 0;
  for (char c : name) h = h * 31 + static_cast<u8>(c);
  return {.frame = 0x28 + (h % 13) * 0x10, .push_rbx = h % 3 == 0, .push_rbp_frame = h % 7 == 0};
}
}  // namespace

VirtAddr Machine::address_of(const std::string& label) {
  const auto mark = label.find('!');
  UNHANG_CHECK(mark != label.npos);
  ModuleInfo& m = module(label.substr(0, mark));
  const std::string name = label.substr(mark + 1);
  // Drivers export next to nothing: their functions have no names without symbols.
  const Function& f = m.image.add_function(name, shape_of(name), m.name == "nt" && options_.exports);
  return m.base + f.call_site;
}

// ---- the result ----

void Machine::put_kdbg() {
  std::vector<u8> b(0x380);
  const auto put64 = [&](u64 at, u64 v) { std::memcpy(&b[at], &v, 8); };
  const auto put16 = [&](u64 at, u64 v) {
    const u16 x = static_cast<u16>(v);
    std::memcpy(&b[at], &x, 2);
  };
  const VirtAddr at = symbol("KdDebuggerDataBlock");
  put64(0, at.value());
  put64(8, at.value());
  std::memcpy(&b[0x10], "KDBG", 4);
  put16(0x14, 0x380);
  put64(0x18, modules_.front()->base.value());
  const std::pair<u32, const char*> pointers[] = {{0x48, "PsLoadedModuleList"},
                                                  {0x50, "PsActiveProcessHead"},
                                                  {0x58, "PspCidTable"},
                                                  {0x60, "ExpSystemResourcesList"},
                                                  {0x78, "KeTimeIncrement"},
                                                  {0x88, "KiBugCheckData"},
                                                  {0x98, "ObpRootDirectoryObject"},
                                                  {0xa0, "ObpTypeObjectType"},
                                                  {0xc0, "MmPfnDatabase"},
                                                  {0x208, "NtBuildLab"},
                                                  {0x218, "KiProcessorBlock"},
                                                  {0x270, "MmPhysicalMemoryBlock"}};
  for (const auto& [field, name] : pointers) put64(field, symbol(name).value());
  const auto member = [&](u32 field, const char* type, const char* path) {
    if (path == nullptr)
      put16(field, size(type));
    else if (has(type, path))
      put16(field, offset(type, path));
  };
  member(0x298, "_KTHREAD", "NextProcessor");
  member(0x29a, "_KTHREAD", "Teb");
  member(0x29c, "_KTHREAD", "KernelStack");
  member(0x29e, "_KTHREAD", "InitialStack");
  member(0x2a2, "_KTHREAD", "State");
  member(0x2a8, "_EPROCESS", nullptr);
  member(0x2aa, "_EPROCESS", "Peb");
  member(0x2ac, "_EPROCESS", "InheritedFromUniqueProcessId");
  member(0x2ae, "_EPROCESS", "Pcb.DirectoryTableBase");
  member(0x2b4, "_KPRCB", "CurrentThread");
  member(0x2be, "_KPRCB", "Number");
  member(0x2c0, "_ETHREAD", nullptr);
  member(0x338, "_KPRCB", "Context");
  if (options_.encode_kdbg) {
    const u64 never = 0x8a3f'1c5d'7e92'4b13, always = 0x55c1'90ab'3d7e'2f68;
    memory_.put(symbol("KiWaitNever"), never);
    memory_.put(symbol("KiWaitAlways"), always);
    for (size_t i = 0; i < b.size(); i += 8) {
      u64 x = 0;
      std::memcpy(&x, &b[i], 8);
      x = __builtin_bswap64(x ^ always) ^ symbol("KdpDataBlockEncoded").value();
      x = std::rotr(x, static_cast<int>(never & 0xff)) ^ never;
      std::memcpy(&b[i], &x, 8);
    }
  }
  memory_.write(at, b.data(), b.size());
}

dump::DumpFile Machine::dump() {
  put_kdbg();
  for (auto& m : modules_) {
    // Images are written late: their functions are known only now. Data that was put into them stays.
    std::vector<u8> bytes = m->image.build();
    const u32 data = m->image.size() - 0x20000;
    memory_.write(m->base, bytes.data(), data);
    list_module(*m);
  }
  dump::DumpFile d;
  d.file = File::from_bytes(std::vector<u8>(1), "synthetic");
  d.format = "synthetic";
  d.description = "made for a test";
  d.physical = std::make_unique<Pages>(memory_.pages());
  for (const CpuInfo& c : cpus_) d.cpus.push_back(c.state);
  return d;
}

void Machine::list_module(ModuleInfo& m) {
  if (!listed_.insert(m.base).second) return;
  const VirtAddr e = alloc(0x140);
  set(e, "_LDR_DATA_TABLE_ENTRY", "DllBase", m.base.value());
  set(e, "_LDR_DATA_TABLE_ENTRY", "SizeOfImage", m.image.size());
  set_string(e + offset("_LDR_DATA_TABLE_ENTRY", "BaseDllName"), m.file);
  set_string(e + offset("_LDR_DATA_TABLE_ENTRY", "FullDllName"),
             "\\SystemRoot\\System32\\drivers\\" + m.file);
  insert_tail(symbol("PsLoadedModuleList"), e + offset("_LDR_DATA_TABLE_ENTRY", "InLoadOrderLinks"));
}

std::vector<u8> Machine::symbols() {
  symbols::LayoutBuilder b;
  b.set_identity(pdb_, options_.build, "synthetic");
  const auto copy_ref = [&](auto&& self, u32 number, int depth) -> u32 {
    symbols::TypeRef r = layout_->ref(number);
    if (r.kind == symbols::TypeKind::unknown || depth > 8) return 0;
    const std::string name(layout_->string(r.name));
    const u32 inner = r.inner == 0 ? 0 : self(self, r.inner, depth + 1);
    r.name = name.empty() ? 0 : b.intern(name);
    r.inner = inner;
    return b.ref(r);
  };
  for (size_t i = 0; i < layout_->type_count(); i++) {
    const symbols::Type t = layout_->type(i);
    if (t.is_enum) {
      b.add_enum(t.name, t.size);
      for (const auto& e : layout_->enumerators(t)) b.add_enumerator(e.name, e.value);
      continue;
    }
    b.add_type(t.name, t.size, t.partial);
    for (const auto& m : layout_->members(t))
      b.add_member(m.name, m.offset, copy_ref(copy_ref, m.type, 0), m.bit_offset, m.bit_length);
  }
  for (const auto& [name, rva] : modules_.front()->image.symbols()) b.add_symbol(name, Rva(rva));
  return b.build();
}

}  // namespace unhang::synth
