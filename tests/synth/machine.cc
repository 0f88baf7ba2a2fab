#include "synth/machine.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "nt/bootstrap.h"
#include "symbols/builtin.h"

namespace unhang::synth {

namespace {

constexpr u64 kStackSize = 0x6000, kStackStride = 0x8000;
constexpr u32 kIncrement = 156250;

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

VirtAddr Machine::write_stack(VirtAddr thread, const Labels& labels, u64 room) {
  const VirtAddr base(get(thread, "_KTHREAD", "StackBase"));
  VirtAddr sp = base - room - stack_used_[thread] - 0x10;
  memory_.put<u64>(sp, 0);  // return address 0 ends the walk
  // A function at the outer end that the processor entered: the machine frame lies above everything.
  u64 rbp = 0;
  for (size_t i = labels.size(); i-- > 0;) {
    address_of(labels[i]);
    const auto mark = labels[i].find('!');
    const Function f = module(labels[i].substr(0, mark)).image.function(labels[i].substr(mark + 1));
    if (f.shape.machine_frame) {
      // RIP CS EFLAGS RSP SS: of the interrupted kernel function, or of user code that is not in the dump.
      const bool kernel = i + 1 < labels.size();
      const VirtAddr interrupted = sp;
      if (labels[i] == "nt!KxRetireDpcList")
        sp = cpus_.at(get(thread, "_KTHREAD", "NextProcessor")).dpc_stack + 0x50;
      sp = sp - 0x28;
      memory_.put<u64>(sp, kernel ? address_of(labels[i + 1]).value() : 0x77a6002a);
      memory_.put<u64>(sp + 8, kernel ? 0x10 : 0x33);
      const auto user = user_sp_.find(thread);
      memory_.put<u64>(sp + 24, kernel                   ? interrupted.value()
                                : user == user_sp_.end() ? 0x21ed20
                                                         : user->second);
      memory_.put<u64>(sp + 32, kernel ? 0x18 : 0x2b);
    } else if (i + 1 < labels.size()) {
      sp = sp - 8;
      memory_.put(sp, address_of(labels[i + 1]));
    }
    if (f.shape.push_rbx) sp = sp - 8;
    if (f.shape.push_rbp_frame) {
      sp = sp - 8;
      memory_.put(sp, rbp);
    }
    sp = sp - f.shape.frame;
    if (f.shape.push_rbp_frame) rbp = sp.value() + 0x20;
  }
  // The registers that a frame pointer needs travel with the start of the stack.
  memory_.put(VirtAddr(base.value() - 0x10), rbp);
  return sp;
}

VirtAddr Machine::stack_slot(VirtAddr thread, u64 size) {
  u64& used = stack_used_[thread];
  used += (size + 15) & ~u64{15};
  return VirtAddr(get(thread, "_KTHREAD", "StackBase")) - 0x100 - used;
}

// ---- object manager ----

void Machine::make_types() {
  static constexpr const char* kTypes[] = {
      "Type",   "Directory", "SymbolicLink", "Process", "Thread",  "Event", "Mutant",   "Semaphore",
      "Device", "Driver",    "IoCompletion", "File",    "Section", "Key",   "ALPC Port"};
  u8 index = 2;
  for (const char* name : kTypes) types_[name] = index++;
  root_ = object("Directory", size("_OBJECT_DIRECTORY"));
  memory_.put(symbol("ObpRootDirectoryObject"), root_);
  for (const char* d : {"\\Device", "\\Driver", "\\FileSystem", "\\GLOBAL??", "\\ObjectTypes"}) directory(d);
  for (const char* name : kTypes) type_object(name);
  memory_.put(symbol("IoFileObjectType"), type_object("File"));
  memory_.put(symbol("PsProcessType"), type_object("Process"));
  memory_.put(symbol("PsThreadType"), type_object("Thread"));
  memory_.put(symbol("ExEventObjectType"), type_object("Event"));
  memory_.put(symbol("ObpTypeObjectType"), type_object("Type"));
}

VirtAddr Machine::type_object(const std::string& name) {
  if (const auto it = type_objects_.find(name); it != type_objects_.end()) return it->second;
  const VirtAddr t = object("Type", size("_OBJECT_TYPE"), "\\ObjectTypes\\" + name);
  set_string(t + offset("_OBJECT_TYPE", "Name"), name);
  set(t, "_OBJECT_TYPE", "Index", types_.at(name));
  memory_.put(symbol("ObTypeIndexTable") + types_.at(name) * u64{8}, t);
  return type_objects_[name] = t;
}

VirtAddr Machine::directory(const std::string& path) {
  if (path.empty()) return root_;
  if (const auto it = named_.find(path); it != named_.end()) return it->second;
  return object("Directory", size("_OBJECT_DIRECTORY"), path);
}

VirtAddr Machine::object(const std::string& type, u64 body_size, const std::string& path) {
  const u32 body = offset("_OBJECT_HEADER", "Body"), name_info = 0x20;
  const VirtAddr block = alloc(name_info + body + body_size);
  const VirtAddr header = block + name_info, object = header + body;
  const u8 index = types_.at(type);
  set(header, "_OBJECT_HEADER", "TypeIndex",
      has_cookie_ ? static_cast<u8>(index ^ cookie_ ^ (header.value() >> 8)) : index);
  set(header, "_OBJECT_HEADER", "PointerCount", 1);
  if (path.empty()) return object;
  const auto end = path.find_last_of('\\');
  const VirtAddr parent = directory(path.substr(0, end));
  set(header, "_OBJECT_HEADER", "InfoMask", 2);
  memory_.put(block, parent);  // OBJECT_HEADER_NAME_INFO.Directory
  set_string(block + 8, path.substr(end + 1));
  named_[path] = object;
  insert_named(parent, object);
  return object;
}

void Machine::insert_named(VirtAddr directory, VirtAddr object) {
  const VirtAddr bucket = directory + (object.value() >> 4) % 37 * 8;
  const VirtAddr entry = alloc(size("_OBJECT_DIRECTORY_ENTRY"));
  memory_.put(entry, memory_.get<VirtAddr>(bucket));
  memory_.put(entry + 8, object);
  memory_.put(bucket, entry);
}

VirtAddr Machine::add_driver(const std::string& path) {
  if (const auto it = drivers_.find(path); it != drivers_.end()) return it->second;
  const VirtAddr d = object("Driver", size("_DRIVER_OBJECT"), path);
  set(d, "_DRIVER_OBJECT", "Type", 4);
  set_string(d + offset("_DRIVER_OBJECT", "DriverName"), path);
  return drivers_[path] = d;
}

VirtAddr Machine::add_device(VirtAddr driver, u32 device_type, const std::string& name) {
  const u32 device_size = size("_DEVICE_OBJECT");
  const VirtAddr d = object("Device", device_size + 0x80, name.empty() ? "" : "\\Device\\" + name);
  set(d, "_DEVICE_OBJECT", "Type", 3);
  set(d, "_DEVICE_OBJECT", "DriverObject", driver.value());
  set(d, "_DEVICE_OBJECT", "DeviceType", device_type);
  set(d, "_DEVICE_OBJECT", "DeviceObjectExtension", (d + device_size).value());
  set(d, "_DEVICE_OBJECT", "NextDevice", get(driver, "_DRIVER_OBJECT", "DeviceObject"));
  set(driver, "_DRIVER_OBJECT", "DeviceObject", d.value());
  return d;
}

void Machine::attach(VirtAddr upper, VirtAddr lower) {
  set(lower, "_DEVICE_OBJECT", "AttachedDevice", upper.value());
  set(VirtAddr(get(upper, "_DEVICE_OBJECT", "DeviceObjectExtension")), "_DEVOBJ_EXTENSION", "AttachedTo",
      lower.value());
}

void Machine::make_devices() {
  volume_device_ = add_device(add_driver("\\Driver\\volmgr"), 7, "HarddiskVolume2");
  ntfs_device_ = add_device(add_driver("\\FileSystem\\Ntfs"), 8);
  filter_device_ = add_device(add_driver("\\FileSystem\\FltMgr"), 8);
  attach(filter_device_, ntfs_device_);
  disk_device_ = add_device(add_driver("\\Driver\\disk"), 7, "Harddisk0DR0");
  port_device_ = add_device(add_driver("\\Driver\\viostor"), 4, "RaidPort0");
  pipe_device_ = add_device(add_driver("\\FileSystem\\Npfs"), 0x11, "NamedPipe");
  vpb_ = alloc(size("_VPB"));
  set(vpb_, "_VPB", "DeviceObject", ntfs_device_.value());
  set(vpb_, "_VPB", "RealDevice", volume_device_.value());
  const VirtAddr link = object("SymbolicLink", size("_OBJECT_SYMBOLIC_LINK"), "\\GLOBAL??\\C:");
  set_string(link + offset("_OBJECT_SYMBOLIC_LINK", "LinkTarget"), "\\Device\\HarddiskVolume2");
}

VirtAddr Machine::add_file(const std::string& path, VirtAddr fs_context) {
  const VirtAddr f = object("File", size("_FILE_OBJECT"));
  set(f, "_FILE_OBJECT", "Type", 5);
  const bool pipe = path.starts_with("\\pipe");
  set(f, "_FILE_OBJECT", "DeviceObject", (pipe ? pipe_device_ : volume_device_).value());
  if (!pipe) set(f, "_FILE_OBJECT", "Vpb", vpb_.value());
  set(f, "_FILE_OBJECT", "FsContext", fs_context.value());
  set_string(f + offset("_FILE_OBJECT", "FileName"), path);
  const VirtAddr event = f + offset("_FILE_OBJECT", "Event");
  init_list(event + offset("_DISPATCHER_HEADER", "WaitListHead"));
  return f;
}

VirtAddr Machine::add_fcb(VirtAddr resource) {
  const VirtAddr fcb = alloc(0x100);
  set(fcb, "_FSRTL_ADVANCED_FCB_HEADER", "NodeTypeCode", 0x705);
  set(fcb, "_FSRTL_ADVANCED_FCB_HEADER", "Resource", resource.value());
  return fcb;
}

VirtAddr Machine::add_handle(VirtAddr process, VirtAddr object, u32 access) {
  const VirtAddr page = handle_tables_.at(process);
  const u64 index = ++next_handle_[process];
  UNHANG_CHECK(index < 256);
  const VirtAddr entry = page + index * 16, header = object - offset("_OBJECT_HEADER", "Body");
  if (has("_HANDLE_TABLE_ENTRY", "ObjectPointerBits")) {
    const auto f = *field("_HANDLE_TABLE_ENTRY", "ObjectPointerBits");
    memory_.put<u64>(entry, (header.value() >> 4) << f.bit_offset | 1);
  } else {
    memory_.put<u64>(entry, header.value() | 1);
  }
  memory_.put<u32>(entry + 8, access);
  return VirtAddr(index * 4);
}

// ---- processes and threads ----

VirtAddr Machine::add_process(const std::string& name, u64 pid, std::optional<u32> session, u64 parent) {
  const VirtAddr p = object("Process", size("_EPROCESS"));
  set(p, "_DISPATCHER_HEADER", "Type", 3);
  init_list(p + offset("_DISPATCHER_HEADER", "WaitListHead"));
  const bool kernel_only = pid <= 4;
  const PhysAddr tables = kernel_only ? memory_.dtb() : memory_.new_process_tables();
  set(p, "_KPROCESS", "DirectoryTableBase", tables.value());
  set(p, "_EPROCESS", "UniqueProcessId", pid);
  set(p, "_EPROCESS", "InheritedFromUniqueProcessId", parent);
  set(p, "_EPROCESS", "CreateTime", 133'445'500'000'000'000 + pid);
  const std::string cut = name.substr(0, 14);
  memory_.write(p + offset("_EPROCESS", "ImageFileName"), cut.c_str(), cut.size() + 1);
  init_list(p + offset("_EPROCESS", "ThreadListHead"));
  if (has("_KPROCESS", "ThreadListHead")) init_list(p + offset("_KPROCESS", "ThreadListHead"));
  if (!kernel_only) {
    const VirtAddr image = alloc(16);
    set_string(image, "\\Device\\HarddiskVolume2\\Windows\\System32\\" + name);
    set(p, "_EPROCESS", "SeAuditProcessCreationInfo.ImageFileName", image.value());
  }
  if (session) {
    // MM_SESSION_SPACE lies at one address for all processes, mapped by each one's own tables.
    const VirtAddr space(0xffffb880'00000000 + *session * u64{0x100000});
    memory_.map(space, kPageSize);
    set(space, "_MM_SESSION_SPACE", "SessionId", *session);
    set(p, "_EPROCESS", "Session", space.value());
  }
  const VirtAddr table = alloc(size("_HANDLE_TABLE"));
  next_pool_ = VirtAddr((next_pool_.value() + kPageSize) & ~(kPageSize - 1)) - 16;
  const VirtAddr page = alloc(kPageSize);
  set(table, "_HANDLE_TABLE", "TableCode", page.value());
  set(table, "_HANDLE_TABLE", "NextHandleNeedingPool", 1024);
  set(table, "_HANDLE_TABLE", "QuotaProcess", kernel_only ? 0 : p.value());
  set(p, "_EPROCESS", "ObjectTable", table.value());
  handle_tables_[p] = page;
  sessions_[p] = session;
  if (pid != 0) insert_tail(symbol("PsActiveProcessHead"), p + offset("_EPROCESS", "ActiveProcessLinks"));
  return p;
}

VirtAddr Machine::add_thread(VirtAddr process, u64 tid) {
  const VirtAddr t = object("Thread", size("_ETHREAD"));
  const VirtAddr stack = next_stack_;
  next_stack_ += kStackStride;
  memory_.map(stack, kStackSize);
  set(t, "_DISPATCHER_HEADER", "Type", 6);
  init_list(t + offset("_DISPATCHER_HEADER", "WaitListHead"));
  set(t, "_KTHREAD", "StackBase", (stack + kStackSize).value());
  set(t, "_KTHREAD", "InitialStack", (stack + kStackSize).value());
  set(t, "_KTHREAD", "StackLimit", stack.value());
  set(t, "_KTHREAD", "KernelStack", (stack + kStackSize - 0x200).value());
  set(t, "_KTHREAD", "Process", process.value());
  set(t, "_KTHREAD", "ApcState.Process", process.value());
  set(t, "_KTHREAD", "KernelStackResident", 1);
  set(t, "_KTHREAD", "Priority", 8);
  set(t, "_KTHREAD", "BasePriority", 8);
  set(t, "_KTHREAD", "ContextSwitches", 100 + tid);
  set(t, "_ETHREAD", "Cid.UniqueProcess", get(process, "_EPROCESS", "UniqueProcessId"));
  set(t, "_ETHREAD", "Cid.UniqueThread", tid);
  init_list(t + offset("_KTHREAD", "MutantListHead"));
  init_list(t + offset("_ETHREAD", "IrpList"));
  insert_tail(process + offset("_EPROCESS", "ThreadListHead"), t + offset("_ETHREAD", "ThreadListEntry"));
  if (has("_KPROCESS", "ThreadListHead"))
    insert_tail(process + offset("_KPROCESS", "ThreadListHead"), t + offset("_KTHREAD", "ThreadListEntry"));
  return t;
}

void Machine::terminate(VirtAddr thread) {
  set(thread, "_KTHREAD", "State", 4);
}

void Machine::terminate_and_unlist(VirtAddr thread) {
  terminate(thread);
  for (const char* type : {"_ETHREAD", "_KTHREAD"}) {
    if (!has(type, "ThreadListEntry")) continue;
    const VirtAddr entry = thread + offset(type, "ThreadListEntry"), next = memory_.get<VirtAddr>(entry),
                   previous = memory_.get<VirtAddr>(entry + 8);
    memory_.put(previous, next);
    memory_.put(next + 8, previous);
  }
}

void Machine::make_ready(VirtAddr thread, u32 processor, u32 ticks_ago) {
  set(thread, "_KTHREAD", "State", 1);
  set(thread, "_KTHREAD", "NextProcessor", processor);
  set(thread, "_KTHREAD", "WaitTime", tick_count() - ticks_ago);
}

void Machine::wait_blocks(VirtAddr thread, const std::vector<VirtAddr>& objects) {
  const VirtAddr first = thread + offset("_KTHREAD", "WaitBlock");
  const u64 block_size = size("_KWAIT_BLOCK");
  set(thread, "_KTHREAD", "WaitBlockList", first.value());
  set(thread, "_KTHREAD", "WaitBlockCount", objects.size());
  for (size_t i = 0; i < objects.size(); i++) {
    const VirtAddr b = first + i * block_size;
    set(b, "_KWAIT_BLOCK", "Thread", thread.value());
    set(b, "_KWAIT_BLOCK", "Object", objects[i].value());
    set(b, "_KWAIT_BLOCK", "WaitType", 1);
    set(b, "_KWAIT_BLOCK", "BlockState", has("_KWAIT_BLOCK", "NextWaitBlock") ? 2 : 4);
    set(b, "_KWAIT_BLOCK", "NextWaitBlock", (first + (i + 1) % objects.size() * block_size).value());
    insert_tail(objects[i] + offset("_DISPATCHER_HEADER", "WaitListHead"), b);
  }
}

void Machine::block(VirtAddr thread, u8 reason, const std::vector<VirtAddr>& objects, u32 ticks,
                    const Labels& stack) {
  set(thread, "_KTHREAD", "State", 5);
  set(thread, "_KTHREAD", "WaitReason", reason);
  set(thread, "_KTHREAD", "WaitTime", tick_count() - ticks);
  wait_blocks(thread, objects);
  Labels whole{"nt!KiSwapContext", "nt!KiCommitThreadWait"};
  whole.insert(whole.end(), stack.begin(), stack.end());
  const VirtAddr sp = write_stack(thread, whole);
  const VirtAddr frame = sp - 0x40;  // KSWITCH_FRAME
  memory_.put(frame + 0x30, memory_.get<u64>(VirtAddr(get(thread, "_KTHREAD", "StackBase")) - 0x10));
  memory_.put(frame + 0x38, address_of(whole.front()));
  set(thread, "_KTHREAD", "KernelStack", frame.value());
}

void Machine::run(VirtAddr thread, u32 processor, const Labels& stack, u32 ticks) {
  CpuInfo& cpu = cpus_.at(processor);
  set(thread, "_KTHREAD", "WaitTime", tick_count() - ticks);
  set(thread, "_KTHREAD", "State", 2);
  set(thread, "_KTHREAD", "NextProcessor", processor);
  set(cpu.kprcb, "_KPRCB", "CurrentThread", thread.value());
  cpu.current = thread;
  const VirtAddr sp = write_stack(thread, stack);
  cpu.state.gpr[dump::rsp] = sp.value();
  cpu.state.gpr[dump::rbp] = memory_.get<u64>(VirtAddr(get(thread, "_KTHREAD", "StackBase")) - 0x10);
  cpu.state.rip = address_of(stack.front()).value();
}

void Machine::make_processors() {
  const VirtAddr idt = memory_.map(VirtAddr(0xfffff800'00b95000), kPageSize);
  const u64 handler = address_of("nt!KiDivideErrorFault").value();
  for (u64 v = 0; v < 256; v++) {
    memory_.put<u16>(idt + v * 16, static_cast<u16>(handler));
    memory_.put<u16>(idt + v * 16 + 2, 0x10);
    memory_.put<u16>(idt + v * 16 + 4, 0x8e00);
    memory_.put<u16>(idt + v * 16 + 6, static_cast<u16>(handler >> 16));
    memory_.put<u32>(idt + v * 16 + 8, static_cast<u32>(handler >> 32));
  }
  const u64 prcb_size = std::max<u64>(size("_KPRCB"), 0x100);
  for (u32 n = 0; n < options_.processors; n++) {
    CpuInfo cpu;
    cpu.kpcr = memory_.map(VirtAddr(0xfffff800'00d00000 + n * u64{0x20000}), 0x180 + prcb_size);
    cpu.kprcb = cpu.kpcr + 0x180;
    memory_.put(cpu.kpcr + 0x18, cpu.kpcr);
    memory_.put(cpu.kpcr + 0x20, cpu.kprcb);
    memory_.put<u32>(cpu.kprcb + 0x24, n);  // the partial layouts lack these three; they never moved
    cpu.idle_thread = add_thread(idle_, 0);
    memory_.put(cpu.kprcb + 0x18, cpu.idle_thread);
    memory_.put(symbol("KiProcessorBlock") + n * u64{8}, cpu.kprcb);
    dump::CpuState& s = cpu.state;
    s.has_control = true;
    s.cs.selector = 0x10;
    s.ss.selector = 0x18;
    s.rflags = 0x246;
    s.gs.base = cpu.kpcr.value();
    s.kernel_gs_base = 0x7fffffd8000;
    s.idt.base = idt.value();
    s.cr0 = 0x80050033;
    s.cr3 = memory_.dtb().value();
    s.cr4 = options_.levels == 5 ? 0x16f8 : 0x6f8;
    cpus_.push_back(cpu);
    constexpr u64 kDpcStack = 0x6000;
    cpu.dpc_stack =
        memory_.map(VirtAddr(0xfffff800'00e00000 + n * u64{0x10000}), kDpcStack) + (kDpcStack - 0x50);
    if (has("_KPRCB", "DpcStack")) set(cpu.kprcb, "_KPRCB", "DpcStack", cpu.dpc_stack.value());
    cpus_.back().dpc_stack = cpu.dpc_stack;
    memory_.put(cpu.kprcb + 8, cpu.idle_thread);
    run(cpu.idle_thread, n, {"nt!KiIdleLoop"});
  }
  memory_.put<u32>(symbol("KeNumberProcessors"), options_.processors);
}

// ---- waits and locks ----

VirtAddr Machine::add_event(bool synchronization) {
  const VirtAddr e = object("Event", size("_KEVENT"));
  set(e, "_DISPATCHER_HEADER", "Type", synchronization ? 1 : 0);
  set(e, "_DISPATCHER_HEADER", "Size", 6);
  init_list(e + offset("_DISPATCHER_HEADER", "WaitListHead"));
  return e;
}

VirtAddr Machine::add_mutant(VirtAddr owner) {
  const VirtAddr m = object("Mutant", size("_KMUTANT"));
  set(m, "_DISPATCHER_HEADER", "Type", 2);
  init_list(m + offset("_DISPATCHER_HEADER", "WaitListHead"));
  set(m, "_KMUTANT", "OwnerThread", owner.value());
  insert_tail(owner + offset("_KTHREAD", "MutantListHead"), m + offset("_KMUTANT", "MutantListEntry"));
  return m;
}

VirtAddr Machine::add_queue() {
  const VirtAddr q = alloc(size("_KQUEUE"));
  set(q, "_DISPATCHER_HEADER", "Type", 4);
  init_list(q + offset("_DISPATCHER_HEADER", "WaitListHead"));
  return q;
}

VirtAddr Machine::add_fast_mutex(VirtAddr owner) {
  const VirtAddr m = alloc(0x40);
  set(m, "_FAST_MUTEX", "Count", 0);
  set(m, "_FAST_MUTEX", "Owner", owner.value());
  const VirtAddr event = m + offset("_FAST_MUTEX", "Event");
  set(event, "_DISPATCHER_HEADER", "Type", 1);
  set(event, "_DISPATCHER_HEADER", "Size", 6);
  init_list(event + offset("_DISPATCHER_HEADER", "WaitListHead"));
  return m;
}

void Machine::init_event(VirtAddr event, u8 type) {
  set(event, "_DISPATCHER_HEADER", "Type", type);
  set(event, "_DISPATCHER_HEADER", "Size", type == 5 ? 8 : 6);
  init_list(event + offset("_DISPATCHER_HEADER", "WaitListHead"));
}

void Machine::suspend(VirtAddr thread, u32 ticks, const Labels& stack) {
  const VirtAddr event = has("_KTHREAD", "SuspendEvent") ? thread + offset("_KTHREAD", "SuspendEvent")
                                                         : thread + offset("_KTHREAD", "SuspendSemaphore");
  init_event(event, has("_KTHREAD", "SuspendEvent") ? 1 : 5);
  set(thread, "_KTHREAD", "SuspendCount", 1);
  Labels whole{"nt!KeWaitForSingleObject", "nt!KiSchedulerApc", "nt!KiDeliverApc"};
  whole.insert(whole.end(), stack.begin(), stack.end());
  block(thread, 5, {event}, ticks, whole);
}

VirtAddr Machine::keep_on_stack(VirtAddr thread, u64 value) {
  const VirtAddr slot = stack_slot(thread, 16);
  memory_.put<u64>(slot, value);
  return slot;
}

VirtAddr Machine::keep_on_dpc_stack(u32 processor) {
  CpuInfo& cpu = cpus_.at(processor);
  cpu.dpc_stack = cpu.dpc_stack - 16;
  if (has("_KPRCB", "DpcStack")) set(cpu.kprcb, "_KPRCB", "DpcStack", cpu.dpc_stack.value());
  return cpu.dpc_stack + 0x50;
}

VirtAddr Machine::alloc_user(VirtAddr process, u64 size) {
  const PhysAddr tables(get(process, "_KPROCESS", "DirectoryTableBase"));
  u64& next = next_user_.try_emplace(process, 0x1'4000'0000).first->second;
  const VirtAddr at = memory_.map(VirtAddr(next), size, tables);
  next += (size + 0xffff) & ~u64{0xffff};
  return at;
}

void Machine::give_user_stack(VirtAddr thread, const std::vector<u64>& values) {
  const VirtAddr process(
      get(thread, "_KTHREAD", has("_KTHREAD", "Process") ? "Process" : "ApcState.Process"));
  const PhysAddr tables(get(process, "_KPROCESS", "DirectoryTableBase"));
  const VirtAddr teb = alloc_user(process, 0x2000), stack = alloc_user(process, 0x4000);
  set(thread, "_KTHREAD", "Teb", teb.value());
  memory_.put<u64>(teb + 8, stack.value() + 0x4000, tables);
  memory_.put<u64>(teb + 16, stack.value(), tables);
  const VirtAddr sp = stack + 0x3800;
  for (size_t i = 0; i < values.size(); i++) memory_.put<u64>(sp + 0x40 + i * 0x18, values[i], tables);
  user_sp_[thread] = sp.value();
}

void Machine::queue_for_spin_lock(VirtAddr lock, VirtAddr place) {
  const VirtAddr last(memory_.get<u64>(lock));
  memory_.put<u64>(place + 8, lock.value() | (last.is_null() ? 0 : 1));
  if (!last.is_null()) memory_.put(last, place);
  memory_.put(lock, place);
}

VirtAddr Machine::add_push_lock() {
  return alloc(16);
}

void Machine::add_lock_entry(VirtAddr thread, VirtAddr lock, bool acquired) {
  const auto inside = field("_ETHREAD", "LockEntries"), old = field("_KTHREAD", "LockEntries");
  const u64 entry_size = layout_->find_type("_KLOCK_ENTRY") ? size("_KLOCK_ENTRY") : 0;
  VirtAddr slots;
  if (entry_size == 0) return;
  if (layout_->find_type("_ETHREAD")->partial) {
    // 10.0.26100: behind a pointer.
    slots = VirtAddr(get(thread, "_KTHREAD", "KernelAbEntries"));
    if (slots.is_null()) {
      slots = alloc(6 * entry_size);
      set(thread, "_KTHREAD", "KernelAbEntries", slots.value());
    }
  } else if (inside) {
    slots = thread + inside->offset;
  } else if (old) {
    slots = thread + old->offset;
  } else {
    return;
  }
  const VirtAddr e = slots + lock_entries_[thread]++ * entry_size;
  memory_.put<u64>(e + offset("_KLOCK_ENTRY", "LockState"), lock.value());
  const auto flag = [&](std::initializer_list<const char*> names, u32 byte_of_flags) {
    for (const char* name : names)
      if (layout_->field("_KLOCK_ENTRY", name)) return set(e, "_KLOCK_ENTRY", name, 1);
    memory_.put<u8>(e + offset("_KLOCK_ENTRY", "EntryFlags") + byte_of_flags, 1);
  };
  if (acquired)
    flag({"AcquiredBit", "AcquiredByte"}, 2);
  else
    flag({"WaitingBit", "WaitingByte", "LockState.Waiting"}, 1);
}

void Machine::own_push_lock(VirtAddr lock, VirtAddr thread) {
  memory_.put<u64>(lock, memory_.get<u64>(lock) | 1);
  keep_on_stack(thread, lock.value());
  add_lock_entry(thread, lock, true);
}

void Machine::wait_for_push_lock(VirtAddr thread, VirtAddr lock, u32 ticks, const Labels& below) {
  const VirtAddr block_at = stack_slot(thread, 0x40);
  init_event(block_at);
  const u64 value = memory_.get<u64>(lock);
  if ((value & 2) != 0) memory_.put<u64>(block_at + 0x18, value & ~u64{0xf});
  memory_.put<u64>(lock, block_at.value() | 3);
  keep_on_stack(thread, lock.value());
  add_lock_entry(thread, lock, false);
  Labels stack{"nt!KeWaitForSingleObject", "nt!ExfAcquirePushLockExclusive"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 28, {block_at}, ticks, stack);
}

VirtAddr Machine::wait_for_event_on_stack(VirtAddr thread, u32 ticks, const Labels& below) {
  const VirtAddr event = stack_slot(thread, 0x20);
  init_event(event);
  Labels stack{"nt!KeWaitForSingleObject"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 0, {event}, ticks, stack);
  return event;
}

void Machine::wait_for_timer(VirtAddr thread, u32 ticks, u32 overdue) {
  const VirtAddr timer = thread + offset("_KTHREAD", "Timer");
  init_event(timer, 8);
  set(timer, "_KTIMER", "DueTime", u64{tick_count() - overdue} * kIncrement);
  block(thread, 4, {timer}, ticks,
        {"nt!KeDelayExecutionThread", "nt!NtDelayExecution", "nt!KiSystemServiceCopyEnd"});
}

VirtAddr Machine::add_critical_section(VirtAddr owner) {
  const VirtAddr process(get(owner, "_KTHREAD", has("_KTHREAD", "Process") ? "Process" : "ApcState.Process"));
  const PhysAddr tables(get(process, "_KPROCESS", "DirectoryTableBase"));
  const VirtAddr c = alloc_user(process, 0x1000) + 0x120;
  memory_.put<u64>(c, ~u64{0}, tables);  // DebugInfo
  memory_.put<i32>(c + 8, -2, tables);   // LockCount
  memory_.put<i32>(c + 12, 1, tables);   // RecursionCount
  memory_.put<u64>(c + 16, get(owner, "_ETHREAD", "Cid.UniqueThread"), tables);
  return c;
}

void Machine::wait_for_critical_section(VirtAddr thread, VirtAddr c, u32 ticks) {
  const VirtAddr process(
      get(thread, "_KTHREAD", has("_KTHREAD", "Process") ? "Process" : "ApcState.Process"));
  const PhysAddr tables(get(process, "_KPROCESS", "DirectoryTableBase"));
  memory_.put<i32>(c + 8, memory_.get<i32>(c + 8, tables) - 4, tables);
  give_user_stack(thread, {0x1234, c.value(), 7});
  // Since Windows 8 a thread is woken by its id and waits for no object.
  if (layout_->build_number() >= 9200)
    block(thread, 37, {}, ticks,
          {"nt!KeWaitForAlertByThreadId", "nt!NtWaitForAlertByThreadId", "nt!KiSystemServiceCopyEnd"});
  else
    block(thread, 6, {add_event()}, ticks,
          {"nt!KeWaitForSingleObject", "nt!NtWaitForSingleObject", "nt!KiSystemServiceCopyEnd"});
}

VirtAddr Machine::add_alpc_port(VirtAddr server, const std::string& path) {
  const VirtAddr port = object("ALPC Port", size("_ALPC_PORT"), path), info = alloc(0x80);
  memory_.put(info, port);
  set(port, "_ALPC_PORT", "CommunicationInfo", info.value());
  set(port, "_ALPC_PORT", "OwnerProcess", server.value());
  for (const char* queue : {"MainQueue", "LargeMessageQueue", "PendingQueue", "WaitQueue"})
    init_list(port + offset("_ALPC_PORT", queue));
  return port;
}

VirtAddr Machine::wait_for_reply(VirtAddr thread, VirtAddr port, VirtAddr server, u32 ticks) {
  const VirtAddr m = alloc(size("_KALPC_MESSAGE"));
  set(m, "_KALPC_MESSAGE", "WaitingThread", thread.value());
  set(m, "_KALPC_MESSAGE", "ServerThread", server.value());
  set(m, "_KALPC_MESSAGE", "PortQueue", port.value());
  set(m, "_KALPC_MESSAGE", "ConnectionPort", port.value());
  set(m, "_KALPC_MESSAGE", "PortMessage.MessageId", 0x1a4);
  insert_tail(port + offset("_ALPC_PORT", server.is_null() ? "MainQueue" : "PendingQueue"),
              m + offset("_KALPC_MESSAGE", "Entry"));
  set(thread, "_ETHREAD", "AlpcMessage", m.value());
  const VirtAddr semaphore = thread + offset("_ETHREAD", "AlpcWaitSemaphore");
  init_event(semaphore, 5);
  block(thread, 17, {semaphore}, ticks,
        {"nt!KeWaitForSingleObject", "nt!AlpcpSignalAndWait", "nt!AlpcpReceiveSynchronousReply",
         "nt!NtAlpcSendWaitReceivePort", "nt!KiSystemServiceCopyEnd"});
  return m;
}

VirtAddr Machine::add_work_queue() {
  const VirtAddr q = alloc(size("_EX_WORK_QUEUE"));
  const bool priority = has("_EX_WORK_QUEUE", "WorkPriQueue");
  set(q, "_DISPATCHER_HEADER", "Type", priority ? 21 : 4);
  init_list(q + offset("_DISPATCHER_HEADER", "WaitListHead"));
  if (priority)
    for (u64 i = 0; i < 32; i++) init_list(q + offset("_KPRIQUEUE", "EntryListHead") + i * 16);
  else
    init_list(q + offset("_KQUEUE", "EntryListHead"));
  return q;
}

void Machine::bind_worker(VirtAddr queue, VirtAddr thread) {
  set(thread, "_KTHREAD", "Queue", queue.value());
}

VirtAddr Machine::queue_item(VirtAddr queue, const std::string& routine, u64 parameter) {
  const VirtAddr item = alloc(size("_WORK_QUEUE_ITEM"));
  set(item, "_WORK_QUEUE_ITEM", "WorkerRoutine", address_of(routine).value());
  set(item, "_WORK_QUEUE_ITEM", "Parameter", parameter);
  const bool priority = has("_EX_WORK_QUEUE", "WorkPriQueue");
  insert_tail(queue + (priority ? offset("_KPRIQUEUE", "EntryListHead") + 12 * 16
                                : offset("_KQUEUE", "EntryListHead")),
              item + offset("_WORK_QUEUE_ITEM", "List"));
  return item;
}

VirtAddr Machine::redirector_device() {
  return add_device(add_driver("\\FileSystem\\mrxsmb20"), 0x14, "LanmanRedirector");
}

VirtAddr Machine::add_resource() {
  const VirtAddr r = alloc(size("_ERESOURCE"));
  insert_tail(symbol("ExpSystemResourcesList"), r + offset("_ERESOURCE", "SystemResourcesList"));
  return r;
}

void Machine::own_exclusive(VirtAddr r, VirtAddr thread) {
  set(r, "_ERESOURCE", "Flag", 0x80);
  set(r, "_ERESOURCE", "ActiveCount", 1);
  set(r, "_ERESOURCE", "ActiveEntries", 1);
  set(r, "_ERESOURCE", "OwnerEntry.OwnerThread", thread.value());
  set(r, "_ERESOURCE", "OwnerEntry.OwnerCount", 1);
}

void Machine::own_shared(VirtAddr r, const std::vector<VirtAddr>& threads) {
  set(r, "_ERESOURCE", "ActiveCount", threads.size());
  set(r, "_ERESOURCE", "ActiveEntries", threads.size());
  const u64 entry = size("_OWNER_ENTRY");
  const VirtAddr table = alloc(entry * (threads.size() + 2));
  set(table, "_OWNER_ENTRY", "TableSize", threads.size() + 2);
  for (size_t i = 0; i < threads.size(); i++) {
    set(table + (i + 1) * entry, "_OWNER_ENTRY", "OwnerThread", threads[i].value());
    set(table + (i + 1) * entry, "_OWNER_ENTRY", "OwnerCount", 1);
  }
  set(r, "_ERESOURCE", "OwnerTable", table.value());
}

void Machine::wait_for_resource(VirtAddr thread, VirtAddr r, bool exclusive, u32 ticks, const Labels& below) {
  const char* member = exclusive ? "ExclusiveWaiters" : "SharedWaiters";
  const char* count = exclusive ? "NumberOfExclusiveWaiters" : "NumberOfSharedWaiters";
  const auto field = layout_->field("_ERESOURCE", member);
  UNHANG_CHECK(field.has_value());
  const std::string type = layout_->describe(field->type);
  VirtAddr object;
  const VirtAddr first(get(r, "_ERESOURCE", member));
  if (type.starts_with("Ptr64 _K")) {
    // One semaphore or event for all waiters.
    object = first;
    if (first.is_null()) {
      object = alloc(0x20);
      set(object, "_DISPATCHER_HEADER", "Type", exclusive ? 1 : 5);
      set(object, "_DISPATCHER_HEADER", "Size", exclusive ? 6 : 8);
      init_list(object + offset("_DISPATCHER_HEADER", "WaitListHead"));
      set(r, "_ERESOURCE", member, object.value());
    }
  } else if (type == "_KWAIT_CHAIN") {
    // 10.0.14393, shared: a single chain of entries on the waiters' stacks.
    const VirtAddr entry = stack_slot(thread, 0x20);
    memory_.put(entry, first);
    object = entry + offset("_KWAIT_CHAIN_ENTRY", "Event");
    set(r, "_ERESOURCE", member, entry.value());
  } else {
    // 10.0.17763 and later: a ring of entries on the waiters' stacks, entered at the first.
    const VirtAddr entry = stack_slot(thread, 0x30);
    if (first.is_null()) {
      init_list(entry);
      set(r, "_ERESOURCE", member, entry.value());
    } else {
      insert_tail(first, entry);
    }
    memory_.put(entry + 0x10, thread);
    object = entry + 0x18;
  }
  if (!type.starts_with("Ptr64 _K")) {
    set(object, "_DISPATCHER_HEADER", "Type", 1);
    set(object, "_DISPATCHER_HEADER", "Size", 6);
    init_list(object + offset("_DISPATCHER_HEADER", "WaitListHead"));
  }
  set(r, "_ERESOURCE", count, get(r, "_ERESOURCE", count) + 1);
  set(r, "_ERESOURCE", "ContentionCount", get(r, "_ERESOURCE", "ContentionCount") + 1);
  Labels stack{"nt!KeWaitForSingleObject", "nt!ExpWaitForResource",
               exclusive ? "nt!ExAcquireResourceExclusiveLite" : "nt!ExAcquireResourceSharedLite"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 27, {object}, ticks, stack);
}

void Machine::wait_for_mutant(VirtAddr thread, VirtAddr mutant, u32 ticks, const Labels& below) {
  Labels stack{"nt!KeWaitForSingleObject"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 6, {mutant}, ticks, stack);
}

void Machine::wait_for_fast_mutex(VirtAddr thread, VirtAddr mutex, u32 ticks, const Labels& below) {
  // wdm.h: FM_LOCK_WAITER_INC.
  set(mutex, "_FAST_MUTEX", "Count", static_cast<u32>(get(mutex, "_FAST_MUTEX", "Count")) + 4);
  Labels stack{"nt!KeWaitForSingleObject", "nt!ExpAcquireFastMutexContended", "nt!ExAcquireFastMutex"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 34, {mutex + offset("_FAST_MUTEX", "Event")}, ticks, stack);
}

// ---- I/O ----

VirtAddr Machine::add_irp(VirtAddr thread, const std::vector<IrpStep>& steps, u32 slots, VirtAddr user_event,
                          bool listed) {
  const u64 irp_size = size("_IRP"), location = size("_IO_STACK_LOCATION");
  UNHANG_CHECK(steps.size() <= slots && !steps.empty());
  const VirtAddr irp = alloc(irp_size + slots * location);
  set(irp, "_IRP", "Type", 6);
  set(irp, "_IRP", "Size", irp_size + slots * location);
  set(irp, "_IRP", "StackCount", slots);
  const u64 current = slots - steps.size() + 1;
  set(irp, "_IRP", "CurrentLocation", current);
  set(irp, "_IRP", "UserEvent", user_event.value());
  set(irp, "_IRP", "Tail.Overlay.Thread", thread.value());
  set(irp, "_IRP", "Tail.Overlay.CurrentStackLocation", (irp + irp_size + (current - 1) * location).value());
  set(irp, "_IRP", "Tail.Overlay.OriginalFileObject", steps.front().file.value());
  for (size_t i = 0; i < steps.size(); i++) {
    const VirtAddr l = irp + irp_size + (slots - 1 - i) * location;
    set(l, "_IO_STACK_LOCATION", "MajorFunction", steps[i].major);
    set(l, "_IO_STACK_LOCATION", "MinorFunction", steps[i].minor);
    set(l, "_IO_STACK_LOCATION", "Control", steps[i].control);
    set(l, "_IO_STACK_LOCATION", "DeviceObject", steps[i].device.value());
    set(l, "_IO_STACK_LOCATION", "FileObject", steps[i].file.value());
    set(l, "_IO_STACK_LOCATION", "CompletionRoutine", steps[i].completion.value());
    set(l, "_IO_STACK_LOCATION", "Context", steps[i].context.value());
  }
  if (listed) insert_tail(thread + offset("_ETHREAD", "IrpList"), irp + offset("_IRP", "ThreadListEntry"));
  return irp;
}

VirtAddr Machine::wait_for_io(VirtAddr thread, const std::vector<IrpStep>& steps, u32 ticks,
                              const Labels& below) {
  const VirtAddr event = stack_slot(thread, size("_KEVENT"));
  set(event, "_DISPATCHER_HEADER", "Type", 1);
  set(event, "_DISPATCHER_HEADER", "Size", 6);
  init_list(event + offset("_DISPATCHER_HEADER", "WaitListHead"));
  std::vector<IrpStep> with_context = steps;
  if (with_context.size() > 1) {
    with_context.back().context = event;  // the completion routine of the driver above signals it
    with_context.back().control = 0xe1;
  }
  const VirtAddr irp = add_irp(thread, with_context);
  Labels stack{"nt!KeWaitForSingleObject"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 0, {event}, ticks, stack);
  return irp;
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
