// What sort of device an I/O request sits at. Decides whether waiting for it is a stall (a disk answers in
// milliseconds) or the normal state of affairs (a pipe, a socket, a keyboard answer when somebody writes).
#pragma once

#include <string>

#include "waits/world.h"

namespace unhang::waits {

enum class IoClass : u8 {
  storage,      // volume, partition, disk, port and miniport drivers
  file_system,  // a local file system works on it itself
  filter,       // a driver on top of a file system
  network,      // a redirector: another machine must answer
  open_ended,   // pipes, sockets, notifications, input: answers when something happens
  other,
};
std::string_view name(IoClass c);

IoClass io_class(const IrpNode& irp);

// The driver's short name without its directory: "viostor" of "\Driver\viostor".
std::string driver_short_name(const std::string& driver);

// A driver of the usual storage stacks, by its name.
bool is_known_storage(const std::string& driver);

// "virtio" miniports: the host's storage answers for them.
bool is_virtio_storage(const std::string& driver);

}  // namespace unhang::waits
