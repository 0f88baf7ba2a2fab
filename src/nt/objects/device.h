// Devices and drivers: DEVICE_OBJECT, DRIVER_OBJECT, VPB.
#pragma once

#include <string>
#include <vector>

#include "nt/object.h"
#include "nt/objects/object_header.h"

namespace unhang::nt {

struct DEVICE_OBJECT {
  static constexpr TypeName kType{"_DEVICE_OBJECT"};
  static inline const Member<u16> Type{kType, "Type"};
  static inline const Member<VirtAddr> DriverObject{kType, "DriverObject"};
  static inline const Member<VirtAddr> NextDevice{kType, "NextDevice"};
  static inline const Member<VirtAddr> AttachedDevice{kType, "AttachedDevice"};
  static inline const Member<VirtAddr> CurrentIrp{kType, "CurrentIrp"};
  static inline const Member<u32> Flags{kType, "Flags"};
  static inline const Member<VirtAddr> Vpb{kType, "Vpb"};
  static inline const Member<VirtAddr> DeviceExtension{kType, "DeviceExtension"};
  static inline const Member<u32> DeviceType{kType, "DeviceType"};
  static inline const Member<VirtAddr> DeviceObjectExtension{kType, "DeviceObjectExtension"};
};

struct DEVOBJ_EXTENSION {
  static constexpr TypeName kType{"_DEVOBJ_EXTENSION"};
  static inline const Member<VirtAddr> AttachedTo{kType, "AttachedTo"};
};

struct DRIVER_OBJECT {
  static constexpr TypeName kType{"_DRIVER_OBJECT"};
  static inline const Member<u16> Type{kType, "Type"};
  static inline const Member<VirtAddr> DeviceObject{kType, "DeviceObject"};
  static inline const Member<VirtAddr> DriverStart{kType, "DriverStart"};
  static inline const Member<u32> DriverSize{kType, "DriverSize"};
  static inline const Member<UnicodeString> DriverName{kType, "DriverName"};
  static inline const Member<Inside> MajorFunction{kType, "MajorFunction"};
  static inline const Member<VirtAddr> DriverStartIo{kType, "DriverStartIo"};
  static inline const Member<VirtAddr> DriverUnload{kType, "DriverUnload"};
};

struct VPB {
  static constexpr TypeName kType{"_VPB"};
  static inline const Member<VirtAddr> DeviceObject{kType, "DeviceObject"};
  static inline const Member<VirtAddr> RealDevice{kType, "RealDevice"};
};

// I/O object type codes (public header wdm.h: IO_TYPE_*), the first two bytes of each structure.
enum IoType : u16 { kIoTypeDevice = 3, kIoTypeDriver = 4, kIoTypeFile = 5, kIoTypeIrp = 6, kIoTypeVpb = 10 };

struct Device {
  VirtAddr address{};
  VirtAddr driver{};
  VirtAddr attached{};     // the device above
  VirtAddr attached_to{};  // the device below
  VirtAddr next{};         // of the same driver
  VirtAddr current_irp{};
  VirtAddr vpb{};
  VirtAddr extension{};
  u32 flags = 0;
  u32 type = 0;             // FILE_DEVICE_*
  std::string name;         // \Device\HarddiskVolume2; empty for unnamed
  std::string driver_name;  // \FileSystem\Ntfs
};

struct Driver {
  VirtAddr address{};
  std::string name;
  VirtAddr start{};
  u32 size = 0;
  VirtAddr start_io{}, unload{};
  std::vector<VirtAddr> major_functions;  // 28
  std::vector<VirtAddr> devices;
  Walk device_walk;
};

// Errors: those of reading, implausible (another type code).
Result<Device> read_device(const Target& target, const ObjectManager& objects, VirtAddr va);
Result<Driver> read_driver(const Target& target, VirtAddr va);
// The driver's name only: \FileSystem\Ntfs. Empty when it cannot be read.
std::string driver_name_of_device(const Target& target, VirtAddr device);
// The stack that a device belongs to, from top to bottom.
std::vector<VirtAddr> device_stack(const Target& target, VirtAddr device);

}  // namespace unhang::nt
