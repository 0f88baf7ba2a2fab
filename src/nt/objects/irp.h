// I/O request packets with every stack location.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nt/object.h"
#include "nt/objects/file_object.h"

namespace unhang::nt {

struct IRP {
  static constexpr TypeName kType{"_IRP"};
  static inline const Member<u16> Type{kType, "Type"};
  static inline const Member<u16> Size{kType, "Size"};
  static inline const Member<VirtAddr> MdlAddress{kType, "MdlAddress"};
  static inline const Member<u32> Flags{kType, "Flags"};
  static inline const Member<VirtAddr> SystemBuffer{kType, "AssociatedIrp.SystemBuffer"};
  static inline const Member<ListEntry> ThreadListEntry{kType, "ThreadListEntry"};
  static inline const Member<u32> Status{kType, "IoStatus.Status"};
  static inline const Member<u8> RequestorMode{kType, "RequestorMode"};
  static inline const Member<u8> PendingReturned{kType, "PendingReturned"};
  static inline const Member<u8> StackCount{kType, "StackCount"};
  static inline const Member<u8> CurrentLocation{kType, kRequired, "CurrentLocation"};
  static inline const Member<u8> Cancel{kType, "Cancel"};
  static inline const Member<VirtAddr> UserIosb{kType, "UserIosb"};
  static inline const Member<VirtAddr> UserEvent{kType, "UserEvent"};
  static inline const Member<VirtAddr> CancelRoutine{kType, "CancelRoutine"};
  static inline const Member<VirtAddr> UserBuffer{kType, "UserBuffer"};
  static inline const Member<VirtAddr> Thread{kType, "Tail.Overlay.Thread"};
  static inline const Member<VirtAddr> CurrentStackLocation{kType, "Tail.Overlay.CurrentStackLocation"};
  static inline const Member<VirtAddr> OriginalFileObject{kType, "Tail.Overlay.OriginalFileObject"};
};

struct IO_STACK_LOCATION {
  static constexpr TypeName kType{"_IO_STACK_LOCATION"};
  static inline const Member<u8> MajorFunction{kType, "MajorFunction"};
  static inline const Member<u8> MinorFunction{kType, "MinorFunction"};
  static inline const Member<u8> Flags{kType, "Flags"};
  static inline const Member<u8> Control{kType, "Control"};
  static inline const Member<Inside> Parameters{kType, "Parameters"};
  static inline const Member<VirtAddr> DeviceObject{kType, "DeviceObject"};
  static inline const Member<VirtAddr> FileObject{kType, "FileObject"};
  static inline const Member<VirtAddr> CompletionRoutine{kType, "CompletionRoutine"};
  static inline const Member<VirtAddr> Context{kType, "Context"};
};

enum MajorFunction : u8 {
  kMjCreate = 0,
  kMjCreateNamedPipe = 1,
  kMjClose = 2,
  kMjRead = 3,
  kMjWrite = 4,
  kMjQueryInformation = 5,
  kMjSetInformation = 6,
  kMjFlushBuffers = 9,
  kMjDirectoryControl = 0xC,
  kMjFileSystemControl = 0xD,
  kMjDeviceControl = 0xE,
  kMjInternalDeviceControl = 0xF,
  kMjLockControl = 0x11,
  kMjCleanup = 0x12,
  kMjPower = 0x16,
  kMjPnp = 0x1B,
};

struct IrpStackLocation {
  u32 index = 0;  // 1-based, as CurrentLocation counts: StackCount is the top
  VirtAddr address{};
  u8 major = 0, minor = 0, flags = 0, control = 0;
  u64 arguments[4] = {};
  VirtAddr device{}, file{}, completion{}, context{};
  bool used() const { return !device.is_null() || !completion.is_null() || major != 0 || !file.is_null(); }
};

struct Irp {
  VirtAddr address{};
  u16 size = 0;
  u32 flags = 0;
  VirtAddr mdl{}, system_buffer{}, thread{}, user_event{}, user_iosb{}, cancel_routine{}, original_file{};
  u32 status = 0;
  bool user_mode = false, pending_returned = false, cancel = false;
  u8 stack_count = 0;
  u8 current_location = 0;  // 1..StackCount; StackCount+1: not sent yet, or completed
  // Tail.Overlay.CurrentStackLocation agrees with CurrentLocation.
  bool consistent = false;
  std::vector<IrpStackLocation> locations;  // index 1 first
  std::vector<Gap> gaps;
  const IrpStackLocation* current() const;
};

bool is_irp(const Target& target, VirtAddr va);
// Errors: those of reading its header, implausible (another type code, impossible counts).
Result<Irp> read_irp(const Target& target, VirtAddr va);
// IRP addresses of ETHREAD.IrpList links.
std::vector<VirtAddr> irps_of_links(const Target& target, const std::vector<VirtAddr>& links);

// "IRP_MJ_CREATE"; "IRP_MN_QUERY_DIRECTORY" where the major has minors, else empty.
std::string_view major_name(u8 major);
std::string_view minor_name(u8 major, u8 minor);

}  // namespace unhang::nt
