// A file system that has the locks of NTFS and its way of failing: whoever makes a name in a directory holds
// the directory exclusively while a short (8.3) name is looked for, and among many names that begin alike
// that takes ages (Microsoft KB Q130694).
#include "ntfs.h"

static LIST_ENTRY NtfsFcbList = {&NtfsFcbList, &NtfsFcbList};
static ULONG64 NtfsNextReference = 0x5000000000031ull;

// ---- files that are open ----

static FCB* NtfsFindFcb(const UNICODE_STRING* name) {
  for (LIST_ENTRY* e = NtfsFcbList.Flink; e != &NtfsFcbList; e = e->Flink) {
    FCB* fcb = CONTAINING_RECORD(e, FCB, Links);
    if (RtlEqualUnicodeString(&fcb->Name, name, TRUE)) return fcb;
  }
  return NULL;
}

static FCB* NtfsCreateFcb(const UNICODE_STRING* name, SHORT type) {
  FCB* fcb = ExAllocatePoolWithTag(NonPagedPool, sizeof *fcb, TAG('N', 't', 'f', 'F'));
  memset(fcb, 0, sizeof *fcb);
  fcb->Header.NodeTypeCode = type;
  fcb->Header.NodeByteSize = sizeof *fcb;
  fcb->Header.Version = 1;
  fcb->Header.Resource = &fcb->Resource;
  fcb->Header.PagingIoResource = &fcb->PagingIoResource;
  InitializeListHead(&fcb->Header.FilterContexts);
  ExInitializeResourceLite(&fcb->Resource);
  ExInitializeResourceLite(&fcb->PagingIoResource);
  fcb->FileReference = NtfsNextReference++;
  fcb->Name.Length = fcb->Name.MaximumLength = name->Length;
  fcb->Name.Buffer = ExAllocatePoolWithTag(PagedPool, name->Length, TAG('N', 't', 'f', '0'));
  memcpy(fcb->Name.Buffer, name->Buffer, name->Length);
  InsertTailList(&NtfsFcbList, &fcb->Links);
  return fcb;
}

static FCB* NtfsCreateDirectoryFcb(const WCHAR* path) {
  UNICODE_STRING name;
  RtlInitUnicodeString(&name, path);
  return NtfsCreateFcb(&name, 0x705);
}

static void NtfsOpenFcb(FILE_OBJECT* file, FCB* fcb) {
  file->FsContext = fcb;
}

static void NtfsAcquireExclusiveFcb(FCB* fcb) {
  ExAcquireResourceExclusiveLite(&fcb->Resource, TRUE);
}

static void NtfsAcquireSharedFcb(FCB* fcb) {
  ExAcquireResourceSharedLite(&fcb->Resource, TRUE);
}

static void NtfsReleaseFcb(FCB* fcb) {
  ExReleaseResourceLite(&fcb->Resource);
}

// The directory of a path, which must be open, and the name in it.
static FCB* NtfsFindParent(const UNICODE_STRING* path, UNICODE_STRING* leaf) {
  UNICODE_STRING parent = *path;
  while (parent.Length > 2 && parent.Buffer[parent.Length / 2 - 1] != '\\') parent.Length -= 2;
  leaf->Buffer = path->Buffer + parent.Length / 2;
  leaf->Length = leaf->MaximumLength = path->Length - parent.Length;
  if (parent.Length > 2) parent.Length -= 2;
  return NtfsFindFcb(&parent);
}

// ---- names ----

// The first short name that the directory has not yet.
static void NtfsGetShortName(FCB* directory, const UNICODE_STRING* name, UNICODE_STRING* short_name) {
  GENERATE_NAME_CONTEXT context = {0, 0};
  do {
    RtlGenerate8dot3Name(name, TRUE, &context, short_name);
  } while (NtfsLookupEntry(directory, short_name));
}

static void NtfsAddLink(FCB* directory, const UNICODE_STRING* name) {
  WCHAR text[12];
  UNICODE_STRING short_name = {0, sizeof text, text};
  NtfsGetShortName(directory, name, &short_name);
}

// ---- create ----

static NTSTATUS NtfsCreateNewFile(FILE_OBJECT* file, FCB* directory, const UNICODE_STRING* name) {
  NtfsAddLink(directory, name);
  NtfsOpenFcb(file, NtfsCreateFcb(&file->FileName, 0x702));
  return STATUS_SUCCESS;
}

static NTSTATUS NtfsOpenFile(FILE_OBJECT* file, FCB* directory, const UNICODE_STRING* name) {
  FCB* fcb = NtfsFindFcb(&file->FileName);
  if (fcb == NULL && directory->TotalBuffers != 0 && !NtfsLookupEntry(directory, name))
    return STATUS_OBJECT_NAME_NOT_FOUND;
  NtfsOpenFcb(file, fcb != NULL ? fcb : NtfsCreateFcb(&file->FileName, 0x702));
  return STATUS_SUCCESS;
}

static NTSTATUS NtfsCommonCreate(IRP* irp) {
  IO_STACK_LOCATION* stack = IoGetCurrentIrpStackLocation(irp);
  FILE_OBJECT* file = stack->FileObject;
  UNICODE_STRING leaf;
  NTSTATUS status;
  if (stack->Parameters.Create.Options & FILE_DIRECTORY_FILE) {
    FCB* fcb = NtfsFindFcb(&file->FileName);
    if (fcb == NULL) return STATUS_OBJECT_NAME_NOT_FOUND;
    NtfsOpenFcb(file, fcb);
    return STATUS_SUCCESS;
  }
  FCB* directory = NtfsFindParent(&file->FileName, &leaf);
  if (directory == NULL) return STATUS_OBJECT_NAME_NOT_FOUND;
  if (stack->Parameters.Create.Options >> 24 == FILE_CREATE) {
    NtfsAcquireExclusiveFcb(directory);
    status = NtfsCreateNewFile(file, directory, &leaf);
  } else {
    NtfsAcquireSharedFcb(directory);
    status = NtfsOpenFile(file, directory, &leaf);
  }
  NtfsReleaseFcb(directory);
  return status;
}

static NTSTATUS NtfsFsdCreate(DEVICE_OBJECT* device, IRP* irp) {
  NTSTATUS status = NtfsCommonCreate(irp);
  IofCompleteRequest(irp, 0);
  return status;
}

// ---- rename: out of one directory into another ----

static NTSTATUS NtfsSetRenameInfo(FILE_OBJECT* file, const FILE_RENAME_INFORMATION* rename) {
  UNICODE_STRING leaf,
      target = {(USHORT)rename->FileNameLength, (USHORT)rename->FileNameLength, (WCHAR*)rename->FileName};
  FCB* from = NtfsFindParent(&file->FileName, &leaf);
  FCB* to = NtfsFindParent(&target, &leaf);
  if (from == NULL || to == NULL) return STATUS_OBJECT_NAME_NOT_FOUND;
  NtfsAcquireExclusiveFcb(from);
  NtfsAcquireExclusiveFcb(to);
  NtfsAddLink(to, &leaf);
  NtfsReleaseFcb(to);
  NtfsReleaseFcb(from);
  return STATUS_SUCCESS;
}

static NTSTATUS NtfsCommonSetInformation(IRP* irp) {
  IO_STACK_LOCATION* stack = IoGetCurrentIrpStackLocation(irp);
  if (stack->Parameters.SetFile.FileInformationClass != FileRenameInformation)
    return STATUS_INVALID_DEVICE_REQUEST;
  return NtfsSetRenameInfo(stack->FileObject, irp->AssociatedIrp.SystemBuffer);
}

static NTSTATUS NtfsFsdSetInformation(DEVICE_OBJECT* device, IRP* irp) {
  NTSTATUS status = NtfsCommonSetInformation(irp);
  IofCompleteRequest(irp, 0);
  return status;
}

// ---- start ----

static NTSTATUS NtfsMountVolume(DRIVER_OBJECT* driver) {
  UNICODE_STRING name;
  FILE_OBJECT* file;
  DEVICE_OBJECT *volume, *device;
  RtlInitUnicodeString(&name, L"HarddiskVolume2");
  NTSTATUS status = IoGetDeviceObjectPointer(&name, 0, &file, &volume);
  if (!NT_SUCCESS(status)) return status;
  status = IoCreateDevice(driver, 0, NULL, FILE_DEVICE_DISK_FILE_SYSTEM, 0, FALSE, &device);
  device->StackSize = 2;  // this file system and the volume below
  device->DeviceObjectExtension->Vpb = volume->Vpb;
  VPB* vpb = volume->Vpb;
  vpb->Flags = VPB_MOUNTED;
  vpb->DeviceObject = device;
  vpb->SerialNumber = 0x4e21f0c7;
  memcpy(vpb->VolumeLabel, L"System", 12);
  vpb->VolumeLabelLength = 12;
  return status;
}

NTSTATUS DriverEntry(DRIVER_OBJECT* driver, UNICODE_STRING* registry_path) {
  driver->MajorFunction[IRP_MJ_CREATE] = NtfsFsdCreate;
  driver->MajorFunction[IRP_MJ_SET_INFORMATION] = NtfsFsdSetInformation;
  NtfsCreateDirectoryFcb(L"\\");
  NtfsCreateDirectoryFcb(L"\\Windows\\System32");
  NtfsCreateDirectoryFcb(L"\\Users\\Administrator");
  FCB* temp = NtfsCreateDirectoryFcb(L"\\Windows\\Temp");
  NtfsFillIndex(temp, 64, 61000);  // 64 buffers of some 240 MB of names
  return NtfsMountVolume(driver);
}
