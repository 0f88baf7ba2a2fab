#include "waits/io_class.h"

#include <algorithm>

#include "base/ascii.h"
#include "nt/objects/irp.h"

namespace unhang::waits {

namespace {

// FILE_DEVICE_* (public header devioctl.h).
enum DeviceType : u32 {
  kDisk = 0x07,
  kDiskFileSystem = 0x08,
  kCdRom = 0x02,
  kCdRomFileSystem = 0x03,
  kController = 0x04,
  kNamedPipe = 0x11,
  kNetworkFileSystem = 0x14,
  kMailslot = 0x0c,
  kKeyboard = 0x0b,
  kMouse = 0x0f,
  kNetwork = 0x12,
  kVirtualDisk = 0x24,
  kMassStorage = 0x2d,
};

// Names of in-box and common drivers, lower case. Device types tell most; names tell what they leave open.
constexpr std::string_view kStorage[] = {
    "disk",    "partmgr",  "volmgr",   "volmgrx",     "volsnap",   "classpnp", "storport",
    "viostor", "vioscsi",  "storahci", "stornvme",    "msahci",    "atapi",    "ataport",
    "pciide",  "intelide", "iastor",   "iastorv",     "iastorac",  "lsi_sas",  "lsi_scsi",
    "megasas", "pvscsi",   "storvsc",  "vhdmp",       "spaceport", "fvevol",   "cdrom",
    "msiscsi", "mpio",     "msdsm",    "ehstorclass", "iorate",    "volume",   "rdyboost",
    "xenvbd",  "xendisk",  "nvme",     "lsi_sss",     "usbstor",   "uaspstor"};
constexpr std::string_view kNetworkFs[] = {"mup",    "mrxsmb", "mrxsmb10", "mrxsmb20", "rdbss", "rdpdr",
                                           "mrxdav", "nfsrdr", "vboxsf",   "virtiofs", "dfsc"};
constexpr std::string_view kFileSystem[] = {"ntfs",  "refs", "refsv1", "fastfat",
                                            "exfat", "udfs", "cdfs",   "fs_rec"};
constexpr std::string_view kOpenEnded[] = {"npfs",     "msfs",     "afd",     "tcpip",           "tdx",
                                           "kbdclass", "mouclass", "hidusb",  "kbdhid",          "mouhid",
                                           "i8042prt", "ksecdd",   "condrv",  "wmixwdm",         "pcw",
                                           "http",     "usbhub",   "usbhub3", "usbhid",          "acpi",
                                           "battc",    "compbatt", "cmbatt",  "vioser",          "netkvm",
                                           "ndis",     "nsiproxy", "termdd",  "rdpvideominiport"};

template <size_t N>
bool in(const std::string_view (&list)[N], std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

}  // namespace

std::string_view name(IoClass c) {
  switch (c) {
    case IoClass::storage:
      return "storage";
    case IoClass::file_system:
      return "file system";
    case IoClass::filter:
      return "file system filter";
    case IoClass::network:
      return "network";
    case IoClass::open_ended:
      return "open-ended";
    case IoClass::other:
      return "other";
  }
  return "other";
}

std::string driver_short_name(const std::string& driver) {
  return lower(driver.substr(driver.find_last_of('\\') + 1));
}

bool is_known_storage(const std::string& driver) {
  return in(kStorage, driver_short_name(driver));
}

bool is_virtio_storage(const std::string& driver) {
  const std::string s = driver_short_name(driver);
  return s == "viostor" || s == "vioscsi";
}

namespace {

// Control requests that programs leave with a driver until it has something to tell ("inverted calls"):
// FilterGetMessage (fltuser.h) of an antivirus service, media changes. Filters and redirectors have many; of
// the others the cancel routine says that the request is meant to lie there.
bool answers_when_it_likes(const IrpNode& irp, const std::string& driver) {
  if (irp.irp.cancel_routine != VirtAddr()) return true;
  return irp.driver.starts_with("\\FileSystem\\") && !in(kFileSystem, driver);
}

// The WebClient service leaves file system controls with its redirector, opened as such and not for a file,
// until that has work for it (mrxdav).
bool is_about_the_device(const IrpNode& irp) {
  constexpr std::string_view kDevices = "\\Device\\";
  return (irp.file.empty() && irp.file_object.is_null()) ||
         (irp.file.starts_with(kDevices) && irp.file.find('\\', kDevices.size()) == irp.file.npos);
}

}  // namespace

IoClass io_class(const IrpNode& irp) {
  const std::string driver = driver_short_name(irp.driver);
  const nt::IrpStackLocation* at = irp.irp.current();
  if (at != nullptr) {
    // A change notification and an oplock request stay pending on purpose.
    if (at->major == nt::kMjDirectoryControl && at->minor == 2) return IoClass::open_ended;
    if (at->major == nt::kMjFileSystemControl && irp.driver.starts_with("\\FileSystem\\") &&
        (!in(kNetworkFs, driver) || is_about_the_device(irp)))
      return IoClass::open_ended;
    if (at->major == nt::kMjLockControl)
      return IoClass::open_ended;  // waits for another opener's byte-range lock
  }
  if (in(kOpenEnded, driver)) return IoClass::open_ended;
  if (at != nullptr && at->major == nt::kMjDeviceControl && answers_when_it_likes(irp, driver))
    return IoClass::open_ended;
  // A pipe on another machine is a pipe.
  if (at != nullptr && at->major == nt::kMjRead && lower(irp.file).find("\\pipe\\") != irp.file.npos)
    return IoClass::open_ended;
  if (in(kStorage, driver)) return IoClass::storage;
  if (in(kNetworkFs, driver)) return IoClass::network;
  if (in(kFileSystem, driver)) return IoClass::file_system;
  switch (irp.device_type) {
    case kNamedPipe:
    case kMailslot:
    case kKeyboard:
    case kMouse:
    case kNetwork:
      return IoClass::open_ended;
    case kNetworkFileSystem:
      return IoClass::network;
    case kDisk:
    case kCdRom:
    case kController:
    case kVirtualDisk:
    case kMassStorage:
      return IoClass::storage;
    // A driver under \FileSystem with a file system's device type that is no file system sits on top of one.
    case kDiskFileSystem:
    case kCdRomFileSystem:
      return IoClass::filter;
    default:
      break;
  }
  if (irp.driver.starts_with("\\FileSystem\\")) return IoClass::filter;
  return IoClass::other;
}

}  // namespace unhang::waits
