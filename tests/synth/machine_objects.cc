// The object manager: types, directories, devices, files, handles; and the requests for files.
#include "base/check.h"
#include "synth/machine.h"

namespace unhang::synth {

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

VirtAddr Machine::redirector_device() {
  return add_device(add_driver("\\FileSystem\\mrxsmb20"), 0x14, "LanmanRedirector");
}

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

}  // namespace unhang::synth
