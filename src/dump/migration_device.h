// Sections of devices in a QEMU migration stream. Their layout is nowhere but in the description ("vmdesc",
// JSON) at the end of the stream, which QEMU has written since 2.3: every device, field, type and size
// (FORMATS 2.3).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dump/migration_stream.h"

namespace unhang::dump {

// Where a field lies in its section. Elements of an array follow each other.
struct DeviceField {
  u64 offset = 0;
  u64 size = 0;  // of one element
  u64 count = 1;
};

class Device {
 public:
  std::string name;
  u32 instance = 0;
  u32 version = 0;
  // By name as QEMU spells it: "env.cr[3]"; a structure's field is "env.segs.base", of element 0.
  std::map<std::string, DeviceField, std::less<>> fields;
  ByteView body;

  // Big-endian number of any size up to 8; element i of an array, byte `skip` of the element.
  std::optional<u64> get(std::string_view field, u64 element = 0) const;
};

// The devices whose names are asked for, in the order of the stream. Without a description: those whose
// layout has stayed the same for so long that it is known (cpu 12, cpu_common 1, apic 3); then `described` is
// false.
struct Devices {
  std::vector<Device> list;
  bool described = false;
};
Devices read_devices(const MigrationStream& stream);

}  // namespace unhang::dump
