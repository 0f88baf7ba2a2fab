#include "nt/objects/irp.h"

#include <array>

#include "base/format.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {
// CHAR in the structure; drivers of deep stacks use some 20 locations.
constexpr u8 kMostLocations = 126;
}  // namespace

const IrpStackLocation* Irp::current() const {
  for (const IrpStackLocation& l : locations)
    if (l.index == current_location) return &l;
  return nullptr;
}

bool is_irp(const Target& target, VirtAddr va) {
  if (!is_kernel(va) || va.value() % 8 != 0) return false;
  const Object o(target, va);
  const auto type = o[IRP::Type];
  const auto count = o[IRP::StackCount];
  const auto current = o[IRP::CurrentLocation];
  return type && *type == kIoTypeIrp && count && current && *count <= kMostLocations &&
         *current <= *count + 1;
}

Result<Irp> read_irp(const Target& target, VirtAddr va) {
  const Object o(target, va);
  if (TRY(o[IRP::Type]) != kIoTypeIrp)
    return fail(
        Error{.why = Why::implausible, .va = va, .type = "_IRP", .member = "Type", .detail = "not an IRP"});
  Irp irp{.address = va};
  irp.size = o.value_or(IRP::Size, 0);
  irp.stack_count = TRY(o[IRP::StackCount]);
  // A thread begins like an IRP: its dispatcher type is 6 too.
  if (irp.stack_count == 0)
    return fail(Error{.why = Why::implausible,
                      .va = va,
                      .type = "_IRP",
                      .member = "StackCount",
                      .detail = "not an IRP: it has no stack locations"});
  irp.current_location = TRY(o[IRP::CurrentLocation]);
  if (irp.stack_count > kMostLocations || irp.current_location > irp.stack_count + 1)
    return fail(Error{.why = Why::implausible,
                      .va = va,
                      .type = "_IRP",
                      .member = "CurrentLocation",
                      .detail = "outside of the IRP's stack"});
  irp.flags = o.value_or(IRP::Flags, 0);
  irp.mdl = o.value_or(IRP::MdlAddress, {});
  irp.system_buffer = o.value_or(IRP::SystemBuffer, {});
  irp.thread = o.value_or(IRP::Thread, {});
  irp.user_event = o.value_or(IRP::UserEvent, {});
  irp.user_iosb = o.value_or(IRP::UserIosb, {});
  irp.cancel_routine = o.value_or(IRP::CancelRoutine, {});
  irp.original_file = o.value_or(IRP::OriginalFileObject, {});
  irp.status = o.value_or(IRP::Status, 0);
  irp.user_mode = o.value_or(IRP::RequestorMode, 0) == 1;
  irp.pending_returned = o.value_or(IRP::PendingReturned, 0) != 0;
  irp.cancel = o.value_or(IRP::Cancel, 0) != 0;

  // The locations are an array right behind the IRP.
  const u64 irp_size = TRY(target.layouts().size_of("_IRP"));
  const u64 location_size = TRY(target.layouts().size_of("_IO_STACK_LOCATION"));
  const auto stated = o[IRP::CurrentStackLocation];
  const VirtAddr expected = va + irp_size + (u64{irp.current_location} - 1) * location_size;
  irp.consistent = stated && *stated == expected;
  const Bound arguments = TRY(target.bind(IO_STACK_LOCATION::Parameters));
  for (u32 i = 1; i <= irp.stack_count; i++) {
    IrpStackLocation l{.index = i, .address = va + irp_size + (i - 1) * location_size};
    const Object s(target, l.address);
    const auto major = s[IO_STACK_LOCATION::MajorFunction];
    if (!major) {
      irp.gaps.push_back({fmt::format("stack location {}", i), hex(l.address), text(major.error())});
      continue;
    }
    l.major = *major;
    l.minor = s.value_or(IO_STACK_LOCATION::MinorFunction, 0);
    l.flags = s.value_or(IO_STACK_LOCATION::Flags, 0);
    l.control = s.value_or(IO_STACK_LOCATION::Control, 0);
    l.device = s.value_or(IO_STACK_LOCATION::DeviceObject, {});
    l.file = s.value_or(IO_STACK_LOCATION::FileObject, {});
    l.completion = s.value_or(IO_STACK_LOCATION::CompletionRoutine, {});
    l.context = s.value_or(IO_STACK_LOCATION::Context, {});
    for (u64 a = 0; a < 4; a++)
      l.arguments[a] = memory::read<u64>(target.kernel(), l.address + arguments.offset + a * 8).value_or(0);
    irp.locations.push_back(l);
  }
  return irp;
}

std::vector<VirtAddr> irps_of_links(const Target& target, const std::vector<VirtAddr>& links) {
  std::vector<VirtAddr> out;
  if (const auto link = target.bind(IRP::ThreadListEntry))
    for (const VirtAddr l : links) out.push_back(l - link->offset);
  return out;
}

std::string_view major_name(u8 major) {
  static constexpr std::array<std::string_view, 28> kNames = {"IRP_MJ_CREATE",
                                                              "IRP_MJ_CREATE_NAMED_PIPE",
                                                              "IRP_MJ_CLOSE",
                                                              "IRP_MJ_READ",
                                                              "IRP_MJ_WRITE",
                                                              "IRP_MJ_QUERY_INFORMATION",
                                                              "IRP_MJ_SET_INFORMATION",
                                                              "IRP_MJ_QUERY_EA",
                                                              "IRP_MJ_SET_EA",
                                                              "IRP_MJ_FLUSH_BUFFERS",
                                                              "IRP_MJ_QUERY_VOLUME_INFORMATION",
                                                              "IRP_MJ_SET_VOLUME_INFORMATION",
                                                              "IRP_MJ_DIRECTORY_CONTROL",
                                                              "IRP_MJ_FILE_SYSTEM_CONTROL",
                                                              "IRP_MJ_DEVICE_CONTROL",
                                                              "IRP_MJ_INTERNAL_DEVICE_CONTROL",
                                                              "IRP_MJ_SHUTDOWN",
                                                              "IRP_MJ_LOCK_CONTROL",
                                                              "IRP_MJ_CLEANUP",
                                                              "IRP_MJ_CREATE_MAILSLOT",
                                                              "IRP_MJ_QUERY_SECURITY",
                                                              "IRP_MJ_SET_SECURITY",
                                                              "IRP_MJ_POWER",
                                                              "IRP_MJ_SYSTEM_CONTROL",
                                                              "IRP_MJ_DEVICE_CHANGE",
                                                              "IRP_MJ_QUERY_QUOTA",
                                                              "IRP_MJ_SET_QUOTA",
                                                              "IRP_MJ_PNP"};
  return major < kNames.size() ? kNames[major] : "IRP_MJ_UNKNOWN";
}

std::string_view minor_name(u8 major, u8 minor) {
  switch (major) {
    case kMjDirectoryControl:
      return minor == 1 ? "IRP_MN_QUERY_DIRECTORY" : minor == 2 ? "IRP_MN_NOTIFY_CHANGE_DIRECTORY" : "";
    case kMjFileSystemControl: {
      static constexpr std::array<std::string_view, 5> kNames = {
          "IRP_MN_USER_FS_REQUEST", "IRP_MN_MOUNT_VOLUME", "IRP_MN_VERIFY_VOLUME", "IRP_MN_LOAD_FILE_SYSTEM",
          "IRP_MN_KERNEL_CALL"};
      return minor < kNames.size() ? kNames[minor] : "";
    }
    case kMjLockControl: {
      static constexpr std::array<std::string_view, 5> kNames = {
          "", "IRP_MN_LOCK", "IRP_MN_UNLOCK_SINGLE", "IRP_MN_UNLOCK_ALL", "IRP_MN_UNLOCK_ALL_BY_KEY"};
      return minor < kNames.size() ? kNames[minor] : "";
    }
    case kMjPower: {
      static constexpr std::array<std::string_view, 4> kNames = {"IRP_MN_WAIT_WAKE", "IRP_MN_POWER_SEQUENCE",
                                                                 "IRP_MN_SET_POWER", "IRP_MN_QUERY_POWER"};
      return minor < kNames.size() ? kNames[minor] : "";
    }
    case kMjPnp: {
      static constexpr std::array<std::string_view, 9> kNames = {
          "IRP_MN_START_DEVICE",       "IRP_MN_QUERY_REMOVE_DEVICE",
          "IRP_MN_REMOVE_DEVICE",      "IRP_MN_CANCEL_REMOVE_DEVICE",
          "IRP_MN_STOP_DEVICE",        "IRP_MN_QUERY_STOP_DEVICE",
          "IRP_MN_CANCEL_STOP_DEVICE", "IRP_MN_QUERY_DEVICE_RELATIONS",
          "IRP_MN_QUERY_INTERFACE"};
      return minor < kNames.size() ? kNames[minor] : minor == 0x17 ? "IRP_MN_SURPRISE_REMOVAL" : "";
    }
    default:
      return "";
  }
}

}  // namespace unhang::nt
