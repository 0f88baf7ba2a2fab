// !devobj and !drvobj.
#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  out.line("Device object ({:016x}) is for:", n.get("address").as_u64());
  out.line(" {} {} DriverObject {:016x}",
           n.get("name").is_null() ? "Cannot read device name or it has none" : n.get("name").as_text(),
           n.get("driver_name").as_text(), n.get("driver").as_u64());
  out.line("Current Irp {:08x} Type {:08x} Flags {:08x}", n.get("current_irp").as_u64(),
           n.get("type").as_u64(), n.get("flags").as_u64());
  out.line("Vpb {:016x} DevExt {:016x}", n.get("vpb").as_u64(), n.get("extension").as_u64());
  if (n.get("attached").as_u64() != 0)
    out.line("AttachedDevice (Upper) {:016x} {}", n.get("attached").as_u64(),
             n.get("attached_driver").as_text());
  if (n.get("attached_to").as_u64() != 0)
    out.line("AttachedTo (Lower) {:016x} {}", n.get("attached_to").as_u64(),
             n.get("attached_to_driver").as_text());
  if (n.get("current_irp").as_u64() == 0) out.raw("Device queue is not busy.");
}

}  // namespace

extern const Shape device_shape;
const Shape device_shape{.name = "device", .print = print};

}  // namespace unhang::report
