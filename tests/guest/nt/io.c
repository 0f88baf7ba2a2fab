// I/O manager: drivers, devices, IRPs, and the services that send them.
#include "ntp.h"

static OBJECT_DIRECTORY *IopDeviceDirectory, *IopDriverDirectory, *IopFileSystemDirectory;

void IoInitSystem(void) {
  IopDeviceDirectory = ObpCreateDirectory(ObpRootDirectoryObject, L"Device");
  IopDriverDirectory = ObpCreateDirectory(ObpRootDirectoryObject, L"Driver");
  IopFileSystemDirectory = ObpCreateDirectory(ObpRootDirectoryObject, L"FileSystem");
}

// ---- drivers and devices ----

static NTSTATUS IopInvalidDeviceRequest(DEVICE_OBJECT* device, IRP* irp) {
  irp->IoStatus.Status = STATUS_INVALID_DEVICE_REQUEST;
  IofCompleteRequest(irp, 0);
  return STATUS_INVALID_DEVICE_REQUEST;
}

void IopLoadDriver(const WCHAR* image, const WCHAR* name, BOOLEAN file_system) {
  KLDR_DATA_TABLE_ENTRY* module = PspFindLoadedModule(image);
  UNICODE_STRING short_name;
  RtlInitUnicodeString(&short_name, name);
  DRIVER_OBJECT* driver =
      ObCreateObject(IoDriverObjectType, sizeof *driver,
                     file_system ? IopFileSystemDirectory : IopDriverDirectory, &short_name);
  driver->Type = IO_TYPE_DRIVER;
  driver->Size = sizeof *driver;
  driver->DriverStart = module->DllBase;
  driver->DriverSize = module->SizeOfImage;
  driver->DriverSection = module;
  driver->DriverInit = module->EntryPoint;
  UNICODE_STRING prefix;
  RtlInitUnicodeString(&prefix, file_system ? L"\\FileSystem\\" : L"\\Driver\\");
  driver->DriverName.Length = prefix.Length + short_name.Length;
  driver->DriverName.MaximumLength = driver->DriverName.Length + 2;
  driver->DriverName.Buffer =
      ExAllocatePoolWithTag(NonPagedPool, driver->DriverName.MaximumLength, TAG('I', 'o', 'D', 'n'));
  memcpy(driver->DriverName.Buffer, prefix.Buffer, prefix.Length);
  memcpy(driver->DriverName.Buffer + prefix.Length / 2, short_name.Buffer, short_name.MaximumLength);
  for (ULONG i = 0; i < COUNT_OF(driver->MajorFunction); i++)
    driver->MajorFunction[i] = IopInvalidDeviceRequest;
  ((NTSTATUS (*)(DRIVER_OBJECT*, UNICODE_STRING*))driver->DriverInit)(driver, NULL);
}

NTSTATUS IoCreateDevice(DRIVER_OBJECT* driver, ULONG extension_size, UNICODE_STRING* name, ULONG type,
                        ULONG characteristics, BOOLEAN exclusive, DEVICE_OBJECT** out) {
  ULONG64 size = (sizeof(DEVICE_OBJECT) + extension_size + 15) & ~15ull;
  DEVICE_OBJECT* device = ObCreateObject(IoDeviceObjectType, size + sizeof(DEVOBJ_EXTENSION),
                                         name != NULL ? IopDeviceDirectory : NULL, name);
  device->Type = IO_TYPE_DEVICE;
  device->Size = (USHORT)(sizeof *device + extension_size);
  device->DriverObject = driver;
  device->NextDevice = driver->DeviceObject;
  driver->DeviceObject = device;
  device->Flags = name != NULL ? DO_DEVICE_HAS_NAME : 0;
  device->Characteristics = characteristics;
  device->DeviceType = type;
  device->StackSize = 1;
  device->SectorSize = 512;
  if (extension_size != 0) device->DeviceExtension = device + 1;
  KeInitializeEvent(&device->DeviceLock, EventSynchronizationObject, TRUE);
  DEVOBJ_EXTENSION* extension = (DEVOBJ_EXTENSION*)((UCHAR*)device + size);
  extension->Type = IO_TYPE_DEVICE_OBJECT_EXTENSION;
  extension->DeviceObject = device;
  device->DeviceObjectExtension = extension;
  if (type == FILE_DEVICE_DISK) {  // a volume; a file system will mount it
    VPB* vpb = ExAllocatePoolWithTag(NonPagedPool, sizeof *vpb, TAG('V', 'p', 'b', ' '));
    memset(vpb, 0, sizeof *vpb);
    vpb->Type = IO_TYPE_VPB;
    vpb->Size = sizeof *vpb;
    vpb->RealDevice = device;
    device->Vpb = vpb;
  }
  *out = device;
  return STATUS_SUCCESS;
}

NTSTATUS IoGetDeviceObjectPointer(UNICODE_STRING* name, ULONG access, FILE_OBJECT** file,
                                  DEVICE_OBJECT** device) {
  *device = ObpLookupDirectoryEntry(IopDeviceDirectory, name);  // the name below \Device
  return *device != NULL ? STATUS_SUCCESS : STATUS_OBJECT_NAME_NOT_FOUND;
}

// ---- I/O request packets ----

static IRP* IopAllocateIrpPrivate(DEVICE_OBJECT* device, FILE_OBJECT* file) {
  ULONG64 size = sizeof(IRP) + (ULONG64)device->StackSize * sizeof(IO_STACK_LOCATION);
  IRP* irp = ExAllocatePoolWithTag(NonPagedPool, size, TAG('I', 'r', 'p', ' '));
  memset(irp, 0, size);
  irp->Type = IO_TYPE_IRP;
  irp->Size = (USHORT)size;
  irp->StackCount = device->StackSize;
  irp->CurrentLocation = device->StackSize + 1;
  irp->Tail.Overlay.CurrentStackLocation = (IO_STACK_LOCATION*)(irp + 1) + device->StackSize;
  irp->Tail.Overlay.Thread = PsGetCurrentThread();
  irp->Tail.Overlay.OriginalFileObject = file;
  irp->RequestorMode = UserMode;
  irp->Flags = IRP_SYNCHRONOUS_API;
  IoGetNextIrpStackLocation(irp)->FileObject = file;
  InsertTailList(&PsGetCurrentThread()->IrpList, &irp->ThreadListEntry);
  return irp;
}

NTSTATUS IofCallDriver(DEVICE_OBJECT* device, IRP* irp) {
  irp->CurrentLocation--;
  IO_STACK_LOCATION* stack = --irp->Tail.Overlay.CurrentStackLocation;
  stack->DeviceObject = device;
  return device->DriverObject->MajorFunction[stack->MajorFunction](device, irp);
}

NTSTATUS IoCallDriverWithTracing(DEVICE_OBJECT* device, IRP* irp) {
  return IofCallDriver(device, irp);
}

void IofCompleteRequest(IRP* irp, CHAR priority_boost) {
  RemoveEntryList(&irp->ThreadListEntry);
  ExFreePoolWithTag(irp, TAG('I', 'r', 'p', ' '));
}

// ---- services ----

static FILE_OBJECT* IopAllocateFileObject(DEVICE_OBJECT* device, const OPEN_PACKET* packet,
                                          const UNICODE_STRING* name) {
  FILE_OBJECT* file = ObCreateObject(IoFileObjectType, sizeof *file, NULL, NULL);
  file->Type = IO_TYPE_FILE;
  file->Size = sizeof *file;
  file->DeviceObject = device;
  file->Vpb = device->Vpb;
  file->Flags = FO_SYNCHRONOUS_IO;
  file->ReadAccess = (packet->DesiredAccess & FILE_READ_DATA) != 0;
  file->WriteAccess = (packet->DesiredAccess & FILE_WRITE_DATA) != 0;
  file->SharedRead = file->SharedWrite = 1;
  KeInitializeEvent(&file->Lock, EventSynchronizationObject, FALSE);
  KeInitializeEvent(&file->Event, EventNotificationObject, FALSE);
  InitializeListHead(&file->IrpList);
  file->FileName.Length = name->Length;
  file->FileName.MaximumLength = (name->Length + 0x37) & ~7;
  file->FileName.Buffer =
      ExAllocatePoolWithTag(PagedPool, file->FileName.MaximumLength, TAG('I', 'o', 'N', 'm'));
  memset(file->FileName.Buffer, 0, file->FileName.MaximumLength);
  memcpy(file->FileName.Buffer, name->Buffer, name->Length);
  return file;
}

NTSTATUS IopParseDevice(DEVICE_OBJECT* device, OPEN_PACKET* packet, const UNICODE_STRING* remaining,
                        PVOID* object) {
  FILE_OBJECT* file = IopAllocateFileObject(device, packet, remaining);
  DEVICE_OBJECT* target = device->Vpb->DeviceObject;
  IRP* irp = IopAllocateIrpPrivate(target, file);
  irp->Flags |= IRP_CREATE_OPERATION | IRP_DEFER_IO_COMPLETION;
  irp->UserIosb = packet->UserIosb;
  IO_STACK_LOCATION* stack = IoGetNextIrpStackLocation(irp);
  stack->MajorFunction = IRP_MJ_CREATE;
  stack->Parameters.Create.Options = packet->Disposition << 24 | packet->CreateOptions;
  stack->Parameters.Create.ShareAccess = (USHORT)packet->ShareAccess;
  NTSTATUS status = IoCallDriverWithTracing(target, irp);
  if (NT_SUCCESS(status)) {
    file->Flags |= FO_HANDLE_CREATED;
    *object = file;
  }
  return status;
}

NTSTATUS IopCreateFile(HANDLE* handle, ULONG access, OBJECT_ATTRIBUTES* attributes, IO_STATUS_BLOCK* status,
                       ULONG share, ULONG disposition, ULONG options) {
  OPEN_PACKET packet = {access, options, disposition, share, status};
  return ObOpenObjectByNameEx(attributes, access, &packet, handle);
}

NTSTATUS NtCreateFile(HANDLE* handle, ULONG access, OBJECT_ATTRIBUTES* attributes, IO_STATUS_BLOCK* status,
                      LARGE_INTEGER* size, ULONG file_attributes, ULONG share, ULONG disposition,
                      ULONG options, PVOID ea, ULONG ea_length) {
  return IopCreateFile(handle, access, attributes, status, share, disposition, options);
}

NTSTATUS NtSetInformationFile(HANDLE handle, IO_STATUS_BLOCK* status, PVOID information, ULONG length,
                              ULONG information_class) {
  PVOID object;
  NTSTATUS result = ObReferenceObjectByHandle(handle, IoFileObjectType, &object);
  if (!NT_SUCCESS(result)) return result;
  FILE_OBJECT* file = object;
  DEVICE_OBJECT* target = file->Vpb->DeviceObject;
  IRP* irp = IopAllocateIrpPrivate(target, file);
  irp->UserIosb = status;
  irp->AssociatedIrp.SystemBuffer = ExAllocatePoolWithTag(NonPagedPool, length, TAG('I', 'o', 'S', 'b'));
  memcpy(irp->AssociatedIrp.SystemBuffer, information, length);
  IO_STACK_LOCATION* stack = IoGetNextIrpStackLocation(irp);
  stack->MajorFunction = IRP_MJ_SET_INFORMATION;
  stack->Parameters.SetFile.Length = length;
  stack->Parameters.SetFile.FileInformationClass = information_class;
  return IofCallDriver(target, irp);
}
