#include "nt/objects/device.h"

#include <algorithm>

#include "nt/target.h"

namespace unhang::nt {

namespace {
constexpr size_t kMostDevices = 4096;
constexpr size_t kMostLevels = 64;
constexpr u32 kMajorFunctions = 28;

std::unexpected<Error> wrong_type(VirtAddr va, const char* type) {
  return fail(Error{.why = Why::implausible, .va = va, .type = type, .member = "Type"});
}
}  // namespace

Result<Device> read_device(const Target& target, const ObjectManager& objects, VirtAddr va) {
  const Object o(target, va);
  if (TRY(o[DEVICE_OBJECT::Type]) != kIoTypeDevice) return wrong_type(va, "_DEVICE_OBJECT");
  Device d{.address = va};
  d.driver = TRY(o[DEVICE_OBJECT::DriverObject]);
  d.attached = o.value_or(DEVICE_OBJECT::AttachedDevice, {});
  d.next = o.value_or(DEVICE_OBJECT::NextDevice, {});
  d.current_irp = o.value_or(DEVICE_OBJECT::CurrentIrp, {});
  d.vpb = o.value_or(DEVICE_OBJECT::Vpb, {});
  d.extension = o.value_or(DEVICE_OBJECT::DeviceExtension, {});
  d.flags = o.value_or(DEVICE_OBJECT::Flags, 0);
  d.type = o.value_or(DEVICE_OBJECT::DeviceType, 0);
  if (const auto e = o.maybe(DEVICE_OBJECT::DeviceObjectExtension); e && is_kernel(*e))
    d.attached_to = Object(target, *e).value_or(DEVOBJ_EXTENSION::AttachedTo, {});
  d.name = objects.path(va);
  d.driver_name = driver_name_of_device(target, va);
  return d;
}

std::string driver_name_of_device(const Target& target, VirtAddr device) {
  const auto driver = Object(target, device)[DEVICE_OBJECT::DriverObject];
  if (!driver || !is_kernel(*driver)) return {};
  const auto name = Object(target, *driver)[DRIVER_OBJECT::DriverName];
  return name ? target.read_string(*name).value_or("") : std::string();
}

Result<Driver> read_driver(const Target& target, VirtAddr va) {
  const Object o(target, va);
  if (TRY(o[DRIVER_OBJECT::Type]) != kIoTypeDriver) return wrong_type(va, "_DRIVER_OBJECT");
  Driver d{.address = va};
  if (const auto name = o[DRIVER_OBJECT::DriverName]) d.name = target.read_string(*name).value_or("");
  d.start = o.value_or(DRIVER_OBJECT::DriverStart, {});
  d.size = o.value_or(DRIVER_OBJECT::DriverSize, 0);
  d.start_io = o.value_or(DRIVER_OBJECT::DriverStartIo, {});
  d.unload = o.value_or(DRIVER_OBJECT::DriverUnload, {});
  if (const auto at = o.address(DRIVER_OBJECT::MajorFunction))
    for (u64 i = 0; i < kMajorFunctions; i++)
      d.major_functions.push_back(memory::read<VirtAddr>(target.kernel(), *at + i * 8).value_or(VirtAddr()));
  // DEVICE_OBJECT.NextDevice does not lie first, so its chain is followed from member to member.
  const auto link = target.bind(DEVICE_OBJECT::NextDevice);
  const auto first = o.maybe(DRIVER_OBJECT::DeviceObject);
  if (link && first && is_kernel(*first)) {
    d.device_walk = walk_chain_of(target.kernel(), *first, link->offset, kMostDevices);
    d.devices = d.device_walk.links;
  }
  return d;
}

std::vector<VirtAddr> device_stack(const Target& target, VirtAddr device) {
  const auto below = [&](VirtAddr at) {
    const auto e = Object(target, at)[DEVICE_OBJECT::DeviceObjectExtension];
    return e && is_kernel(*e) ? Object(target, *e).value_or(DEVOBJ_EXTENSION::AttachedTo, {}) : VirtAddr();
  };
  const auto above = [&](VirtAddr at) {
    return Object(target, at).value_or(DEVICE_OBJECT::AttachedDevice, {});
  };
  std::vector<VirtAddr> stack{device};
  auto known = [&](VirtAddr at) { return std::find(stack.begin(), stack.end(), at) != stack.end(); };
  for (VirtAddr at = below(device); is_kernel(at) && !known(at) && stack.size() < kMostLevels; at = below(at))
    stack.push_back(at);
  for (VirtAddr at = above(device); is_kernel(at) && !known(at) && stack.size() < kMostLevels; at = above(at))
    stack.insert(stack.begin(), at);
  return stack;
}

}  // namespace unhang::nt
