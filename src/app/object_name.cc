#include "app/object_name.h"

#include "app/expression.h"
#include "nt/objects/device.h"

namespace unhang::app {

Result<VirtAddr> object_by_name(Session& session, const std::string& word,
                                std::initializer_list<const char*> directories) {
  if (const auto va = evaluate(session, word); va && is_kernel(*va)) return *va;
  if (word.starts_with('\\')) {
    if (const auto found = session.objects().find(word)) return *found;
  } else {
    for (const char* d : directories)
      if (const auto found = session.objects().find(std::string(d) + word)) return *found;
  }
  // A dump without the object namespace: drivers of the devices that open files and requests lead to.
  std::vector<VirtAddr> devices;
  for (const auto& [va, info] : session.world().files) devices.push_back(info.file.device);
  for (const waits::IrpNode& i : session.world().irps)
    for (const nt::IrpStackLocation& l : i.irp.locations) devices.push_back(l.device);
  for (const VirtAddr device : devices) {
    const std::string name = nt::driver_name_of_device(session.target(), device);
    if (!name.empty() && (name == word || name.ends_with("\\" + word)))
      return nt::Object(session.target(), device)[nt::DEVICE_OBJECT::DriverObject];
  }
  return fail(Error{.why = Why::unsupported, .detail = "neither an address nor an object of that name"});
}

}  // namespace unhang::app
