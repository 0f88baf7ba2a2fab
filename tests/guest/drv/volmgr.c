// The volume manager: one volume, which never does any I/O.
#include "../inc/nt.h"

NTSTATUS DriverEntry(DRIVER_OBJECT* driver, UNICODE_STRING* registry_path) {
  UNICODE_STRING name;
  DEVICE_OBJECT* volume;
  RtlInitUnicodeString(&name, L"HarddiskVolume2");
  return IoCreateDevice(driver, 0, &name, FILE_DEVICE_DISK, 0, FALSE, &volume);
}
