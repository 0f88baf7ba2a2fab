#include "nt/objects/file_object.h"

#include "nt/target.h"

namespace unhang::nt {

namespace {

constexpr int kMostRelated = 8;

std::string join(const std::string& directory, const std::string& name) {
  if (directory.empty()) return name;
  if (name.empty()) return directory;
  return directory.back() == '\\' ? directory + name : directory + "\\" + name;
}

// The name, prefixed by the names of the directories that it was opened relative to. After the open NTFS puts
// the whole path into FileName; then it begins with a separator and the related object no longer matters.
std::string joined_path(const Target& target, VirtAddr file, std::string name) {
  VirtAddr at = file;
  for (int depth = 0; depth < kMostRelated && !name.starts_with('\\'); depth++) {
    const auto related = Object(target, at)[FILE_OBJECT::RelatedFileObject];
    if (!related || !is_kernel(*related) || *related == at || !is_file_object(target, *related)) break;
    at = *related;
    const auto s = Object(target, at)[FILE_OBJECT::FileName];
    name = join(s ? target.read_string(*s).value_or("") : std::string(), name);
  }
  return name;
}

}  // namespace

std::string FileObject::full_path() const {
  const std::string& prefix = drive.empty() ? volume : drive;
  if (path.empty() || path.starts_with('\\')) return prefix + path;
  return prefix.empty() ? path : prefix + "\\" + path;
}

bool is_file_object(const Target& target, VirtAddr va) {
  if (!is_kernel(va) || va.value() % 8 != 0) return false;
  const Object o(target, va);
  const auto type = o[FILE_OBJECT::Type];
  const auto device = o[FILE_OBJECT::DeviceObject];
  return type && *type == kIoTypeFile && device && is_kernel(*device);
}

Result<FileObject> read_file_object(const Target& target, const ObjectManager& objects, VirtAddr va) {
  const Object o(target, va);
  if (TRY(o[FILE_OBJECT::Type]) != kIoTypeFile)
    return fail(Error{.why = Why::implausible,
                      .va = va,
                      .type = "_FILE_OBJECT",
                      .member = "Type",
                      .detail = "not a file object"});
  FileObject f{.address = va};
  const auto name = o[FILE_OBJECT::FileName];
  const auto text = name ? target.read_string(*name) : Result<std::string>(fail(name.error()));
  if (text)
    f.name = *text;
  else
    f.name_error = text.error();
  f.path = joined_path(target, va, f.name);
  f.device = o.value_or(FILE_OBJECT::DeviceObject, {});
  f.vpb = o.value_or(FILE_OBJECT::Vpb, {});
  f.fs_context = o.value_or(FILE_OBJECT::FsContext, {});
  f.fs_context2 = o.value_or(FILE_OBJECT::FsContext2, {});
  f.section_pointers = o.value_or(FILE_OBJECT::SectionObjectPointer, {});
  f.related = o.value_or(FILE_OBJECT::RelatedFileObject, {});
  f.flags = o.value_or(FILE_OBJECT::Flags, 0);
  f.current_offset = o.value_or(FILE_OBJECT::CurrentByteOffset, 0);
  auto set = [&](const Member<u8>& m) { return o.value_or(m, 0) != 0; };
  f.read = set(FILE_OBJECT::ReadAccess);
  f.write = set(FILE_OBJECT::WriteAccess);
  f.del = set(FILE_OBJECT::DeleteAccess);
  f.shared_read = set(FILE_OBJECT::SharedRead);
  f.shared_write = set(FILE_OBJECT::SharedWrite);
  f.shared_delete = set(FILE_OBJECT::SharedDelete);
  // The volume: the VPB's real device is the disk's; a file without a VPB is on its device itself (pipes).
  VirtAddr device = f.device;
  if (is_kernel(f.vpb))
    if (const auto real = Object(target, f.vpb)[VPB::RealDevice]; real && is_kernel(*real)) device = *real;
  if (is_kernel(device)) f.volume = objects.path(device);
  // Devices are named in \Device; when the directory of the name cannot be read, only the last part is known.
  if (!f.volume.empty() && f.volume.find('\\', 1) == f.volume.npos) f.volume = "\\Device" + f.volume;
  if (const auto it = objects.drives().find(f.volume); it != objects.drives().end()) f.drive = it->second;
  return f;
}

Result<FcbHeader> read_fcb_header(const Target& target, VirtAddr fs_context) {
  if (!is_kernel(fs_context))
    return fail(Error{.why = Why::bad_address, .va = fs_context, .type = "_FSRTL_ADVANCED_FCB_HEADER"});
  const Object o(target, fs_context);
  FcbHeader h;
  h.node_type = TRY(o[FCB_HEADER::NodeTypeCode]);
  h.resource = TRY(o[FCB_HEADER::Resource]);
  h.paging_io_resource = TRY(o[FCB_HEADER::PagingIoResource]);
  h.file_size = o.value_or(FCB_HEADER::FileSize, 0);
  const auto plausible = [](VirtAddr p) { return p.is_null() || is_kernel(p); };
  if (!plausible(h.resource) || !plausible(h.paging_io_resource))
    return fail(Error{.why = Why::implausible,
                      .va = fs_context,
                      .type = "_FSRTL_ADVANCED_FCB_HEADER",
                      .member = "Resource"});
  return h;
}

std::vector<std::string_view> file_flag_names(u32 flags) {
  static constexpr std::pair<u32, std::string_view> kNames[] = {{0x1, "File Open"},
                                                                {0x2, "Synchronous IO"},
                                                                {0x4, "Alertable IO"},
                                                                {0x8, "No Intermediate Buffering"},
                                                                {0x10, "Write Through"},
                                                                {0x20, "Sequential Only"},
                                                                {0x40, "Cache Supported"},
                                                                {0x80, "Named Pipe"},
                                                                {0x100, "Stream File"},
                                                                {0x200, "Mailslot"},
                                                                {0x400, "Generate Audit on Close"},
                                                                {0x800, "Direct Device Open"},
                                                                {0x1000, "File Modified"},
                                                                {0x2000, "File Size Changed"},
                                                                {0x4000, "Cleanup Complete"},
                                                                {0x8000, "Temporary File"},
                                                                {0x10000, "Delete on Close"},
                                                                {0x20000, "Opened Case Sensitive"},
                                                                {0x40000, "Handle Created"},
                                                                {0x80000, "File Fast IO Read"},
                                                                {0x100000, "Random Access"},
                                                                {0x200000, "File Open Cancelled"},
                                                                {0x400000, "Volume Open"},
                                                                {0x1000000, "Remote Origin"},
                                                                {0x4000000, "Skip Completion Port"}};
  std::vector<std::string_view> out;
  for (const auto& [bit, name] : kNames)
    if ((flags & bit) != 0) out.push_back(name);
  return out;
}

}  // namespace unhang::nt
