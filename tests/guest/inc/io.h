// I/O manager ("Io"): drivers, devices, files, I/O request packets. Public header wdm.h has most of these.
#pragma once
#include "ob.h"

typedef struct _DEVICE_OBJECT DEVICE_OBJECT;
typedef struct _DRIVER_OBJECT DRIVER_OBJECT;
typedef struct _FILE_OBJECT FILE_OBJECT;
typedef struct _IRP IRP;

// The first two bytes of each structure (IO_TYPE_* of wdm.h).
enum {
  IO_TYPE_DEVICE = 3,
  IO_TYPE_DRIVER = 4,
  IO_TYPE_FILE = 5,
  IO_TYPE_IRP = 6,
  IO_TYPE_VPB = 10,
  IO_TYPE_DEVICE_OBJECT_EXTENSION = 13
};

enum {
  IRP_MJ_CREATE = 0,
  IRP_MJ_CLOSE = 2,
  IRP_MJ_READ = 3,
  IRP_MJ_WRITE = 4,
  IRP_MJ_SET_INFORMATION = 6,
  IRP_MJ_MAXIMUM_FUNCTION = 0x1b
};
enum { FILE_DEVICE_DISK = 7, FILE_DEVICE_DISK_FILE_SYSTEM = 8 };

// IO_STACK_LOCATION.Control.
enum {
  SL_PENDING_RETURNED = 1,
  SL_INVOKE_ON_CANCEL = 0x20,
  SL_INVOKE_ON_SUCCESS = 0x40,
  SL_INVOKE_ON_ERROR = 0x80
};
// IRP.Flags.
enum {
  IRP_SYNCHRONOUS_API = 0x4,
  IRP_CREATE_OPERATION = 0x80,
  IRP_READ_OPERATION = 0x100,
  IRP_DEFER_IO_COMPLETION = 0x800
};
// FILE_OBJECT.Flags.
enum { FO_SYNCHRONOUS_IO = 2, FO_HANDLE_CREATED = 0x40000 };
// DEVICE_OBJECT.Flags.
enum { DO_DEVICE_HAS_NAME = 0x40 };
enum { VPB_MOUNTED = 1 };

enum { FILE_READ_DATA = 1, FILE_WRITE_DATA = 2, DELETE = 0x10000, SYNCHRONIZE = 0x100000 };
enum { FILE_SHARE_READ = 1, FILE_SHARE_WRITE = 2, FILE_SHARE_DELETE = 4 };
// CreateDisposition of NtCreateFile; it lies in the upper byte of Parameters.Create.Options.
enum { FILE_OPEN = 1, FILE_CREATE = 2, FILE_OPEN_IF = 3 };
// FILE_RENAME_INFORMATION of ntifs.h, class 10.
enum { FileRenameInformation = 10 };
typedef struct _FILE_RENAME_INFORMATION {
  ULONG Flags;
  HANDLE RootDirectory;
  ULONG FileNameLength;
  WCHAR FileName[80];
} FILE_RENAME_INFORMATION;
enum { FILE_DIRECTORY_FILE = 1, FILE_SYNCHRONOUS_IO_NONALERT = 0x20 };

typedef struct _IO_STATUS_BLOCK {  // 0x10
  union {
    NTSTATUS Status;  // 0x00
    PVOID Pointer;    // 0x00
  };
  ULONG64 Information;  // 0x08
} IO_STATUS_BLOCK;

typedef struct _VPB {           // 0x60
  SHORT Type;                   // 0x00
  SHORT Size;                   // 0x02
  USHORT Flags;                 // 0x04
  USHORT VolumeLabelLength;     // 0x06
  DEVICE_OBJECT* DeviceObject;  // 0x08  the file system's
  DEVICE_OBJECT* RealDevice;    // 0x10  the volume's
  ULONG SerialNumber;           // 0x18
  ULONG ReferenceCount;         // 0x1c
  WCHAR VolumeLabel[32];        // 0x20
} VPB;

typedef struct _DEVOBJ_EXTENSION {  // 0x70
  SHORT Type;                       // 0x00
  USHORT Size;                      // 0x02
  DEVICE_OBJECT* DeviceObject;      // 0x08
  ULONG PowerFlags;                 // 0x10
  PVOID Dope;                       // 0x18
  ULONG ExtensionFlags;             // 0x20
  PVOID DeviceNode;                 // 0x28
  DEVICE_OBJECT* AttachedTo;        // 0x30  the device below
  LONG StartIoCount;                // 0x38
  LONG StartIoKey;                  // 0x3c
  ULONG StartIoFlags;               // 0x40
  VPB* Vpb;                         // 0x48
  UCHAR Unused50[0x20];
} DEVOBJ_EXTENSION;

struct _DEVICE_OBJECT {           // 0x150
  SHORT Type;                     // 0x000
  USHORT Size;                    // 0x002
  LONG ReferenceCount;            // 0x004
  DRIVER_OBJECT* DriverObject;    // 0x008
  DEVICE_OBJECT* NextDevice;      // 0x010  of the same driver
  DEVICE_OBJECT* AttachedDevice;  // 0x018  the device above
  IRP* CurrentIrp;                // 0x020
  PVOID Timer;                    // 0x028
  ULONG Flags;                    // 0x030
  ULONG Characteristics;          // 0x034
  VPB* Vpb;                       // 0x038
  PVOID DeviceExtension;          // 0x040
  ULONG DeviceType;               // 0x048
  CHAR StackSize;                 // 0x04c
  ULONG64 Queue[9];               // 0x050
  ULONG AlignmentRequirement;     // 0x098
  struct {
    SHORT Type;
    SHORT Size;
    LIST_ENTRY DeviceListHead;
    ULONG64 Lock;
    ULONG64 Busy;
  } DeviceQueue;                            // 0x0a0
  KDPC Dpc;                                 // 0x0c8
  ULONG ActiveThreadCount;                  // 0x108
  PVOID SecurityDescriptor;                 // 0x110
  KEVENT DeviceLock;                        // 0x118
  USHORT SectorSize;                        // 0x130
  USHORT Spare1;                            // 0x132
  DEVOBJ_EXTENSION* DeviceObjectExtension;  // 0x138
  PVOID Reserved;                           // 0x140
  UCHAR Unused148[8];
};

typedef NTSTATUS DRIVER_DISPATCH(DEVICE_OBJECT* DeviceObject, IRP* Irp);
typedef NTSTATUS IO_COMPLETION_ROUTINE(DEVICE_OBJECT* DeviceObject, IRP* Irp, PVOID Context);

struct _DRIVER_OBJECT {                                         // 0x150
  SHORT Type;                                                   // 0x000
  SHORT Size;                                                   // 0x002
  DEVICE_OBJECT* DeviceObject;                                  // 0x008
  ULONG Flags;                                                  // 0x010
  PVOID DriverStart;                                            // 0x018
  ULONG DriverSize;                                             // 0x020
  PVOID DriverSection;                                          // 0x028  its KLDR_DATA_TABLE_ENTRY
  PVOID DriverExtension;                                        // 0x030
  UNICODE_STRING DriverName;                                    // 0x038
  UNICODE_STRING* HardwareDatabase;                             // 0x048
  PVOID FastIoDispatch;                                         // 0x050
  PVOID DriverInit;                                             // 0x058
  PVOID DriverStartIo;                                          // 0x060
  PVOID DriverUnload;                                           // 0x068
  DRIVER_DISPATCH* MajorFunction[IRP_MJ_MAXIMUM_FUNCTION + 1];  // 0x070
};

typedef struct _SECTION_OBJECT_POINTERS {  // 0x18
  PVOID DataSectionObject;                 // 0x00
  PVOID SharedCacheMap;                    // 0x08
  PVOID ImageSectionObject;                // 0x10
} SECTION_OBJECT_POINTERS;

struct _FILE_OBJECT {           // 0xd8
  SHORT Type;                   // 0x00
  SHORT Size;                   // 0x02
  DEVICE_OBJECT* DeviceObject;  // 0x08
  VPB* Vpb;                     // 0x10
  PVOID FsContext;              // 0x18  FSRTL_ADVANCED_FCB_HEADER of the file, once it is open
  PVOID FsContext2;             // 0x20
  SECTION_OBJECT_POINTERS* SectionObjectPointer;  // 0x28
  PVOID PrivateCacheMap;                          // 0x30
  NTSTATUS FinalStatus;                           // 0x38
  FILE_OBJECT* RelatedFileObject;                 // 0x40  the directory that FileName is relative to
  UCHAR LockOperation;                            // 0x48
  UCHAR DeletePending;                            // 0x49
  UCHAR ReadAccess;                               // 0x4a
  UCHAR WriteAccess;                              // 0x4b
  UCHAR DeleteAccess;                             // 0x4c
  UCHAR SharedRead;                               // 0x4d
  UCHAR SharedWrite;                              // 0x4e
  UCHAR SharedDelete;                             // 0x4f
  ULONG Flags;                                    // 0x50
  UNICODE_STRING FileName;                        // 0x58
  LARGE_INTEGER CurrentByteOffset;                // 0x68
  ULONG Waiters;                                  // 0x70
  ULONG Busy;                                     // 0x74
  PVOID LastLock;                                 // 0x78
  KEVENT Lock;                                    // 0x80
  KEVENT Event;                                   // 0x98
  PVOID CompletionContext;                        // 0xb0
  ULONG64 IrpListLock;                            // 0xb8
  LIST_ENTRY IrpList;                             // 0xc0
  PVOID FileObjectExtension;                      // 0xd0
};

struct _IRP {                        // 0xd0
  SHORT Type;                        // 0x00
  USHORT Size;                       // 0x02
  USHORT AllocationProcessorNumber;  // 0x04
  USHORT Reserved;                   // 0x06
  PVOID MdlAddress;                  // 0x08
  ULONG Flags;                       // 0x10
  union {
    IRP* MasterIrp;            // 0x18
    LONG IrpCount;             // 0x18
    PVOID SystemBuffer;        // 0x18
  } AssociatedIrp;             // 0x18
  LIST_ENTRY ThreadListEntry;  // 0x20  in ETHREAD.IrpList
  IO_STATUS_BLOCK IoStatus;    // 0x30
  CHAR RequestorMode;          // 0x40
  UCHAR PendingReturned;       // 0x41
  CHAR StackCount;             // 0x42
  CHAR CurrentLocation;        // 0x43  StackCount + 1 until it is sent, then one less for each driver
  UCHAR Cancel;                // 0x44
  UCHAR CancelIrql;            // 0x45
  CHAR ApcEnvironment;         // 0x46
  UCHAR AllocationFlags;       // 0x47
  IO_STATUS_BLOCK* UserIosb;   // 0x48
  KEVENT* UserEvent;           // 0x50
  union {
    struct {
      PVOID UserApcRoutine;        // 0x58
      PVOID UserApcContext;        // 0x60
    } AsynchronousParameters;      // 0x58
    LARGE_INTEGER AllocationSize;  // 0x58
  } Overlay;                       // 0x58
  PVOID CancelRoutine;             // 0x68
  PVOID UserBuffer;                // 0x70
  union {
    struct {
      PVOID DriverContext[4];                           // 0x78
      struct _ETHREAD* Thread;                          // 0x98
      CHAR* AuxiliaryBuffer;                            // 0xa0
      LIST_ENTRY ListEntry;                             // 0xa8
      struct _IO_STACK_LOCATION* CurrentStackLocation;  // 0xb8
      FILE_OBJECT* OriginalFileObject;                  // 0xc0
      PVOID IrpExtension;                               // 0xc8
    } Overlay;                                          // 0x78
    KAPC Apc;                                           // 0x78
    PVOID CompletionKey;                                // 0x78
  } Tail;                                               // 0x78
};

// An array of StackCount of these follows the IRP, the last one for the driver on top.
typedef struct _IO_STACK_LOCATION {  // 0x48
  UCHAR MajorFunction;               // 0x00
  UCHAR MinorFunction;               // 0x01
  UCHAR Flags;                       // 0x02
  UCHAR Control;                     // 0x03
  union {
    struct {
      PVOID SecurityContext;  // 0x08
      ULONG Options;          // 0x10
      ULONG Unused14;
      USHORT FileAttributes;  // 0x18
      USHORT ShareAccess;     // 0x1a
      ULONG Unused1c;
      ULONG EaLength;  // 0x20
    } Create;          // 0x08
    struct {
      ULONG Length;  // 0x08
      ULONG Unused0c;
      ULONG Key;                 // 0x10
      ULONG Flags;               // 0x14
      LARGE_INTEGER ByteOffset;  // 0x18
    } Read;                      // 0x08
    struct {
      ULONG Length;  // 0x08
      ULONG Unused0c;
      ULONG FileInformationClass;  // 0x10
      ULONG Unused14;
      FILE_OBJECT* FileObject;  // 0x18
    } SetFile;                  // 0x08
    struct {
      PVOID Argument1;                       // 0x08
      PVOID Argument2;                       // 0x10
      PVOID Argument3;                       // 0x18
      PVOID Argument4;                       // 0x20
    } Others;                                // 0x08
  } Parameters;                              // 0x08
  DEVICE_OBJECT* DeviceObject;               // 0x28
  FILE_OBJECT* FileObject;                   // 0x30
  IO_COMPLETION_ROUTINE* CompletionRoutine;  // 0x38  of the driver above
  PVOID Context;                             // 0x40
} IO_STACK_LOCATION;

// The public head of every file system's per-file structure (ntifs.h).
typedef struct _FSRTL_ADVANCED_FCB_HEADER {  // 0x68
  SHORT NodeTypeCode;                        // 0x00
  SHORT NodeByteSize;                        // 0x02
  UCHAR Flags;                               // 0x04
  UCHAR IsFastIoPossible;                    // 0x05
  UCHAR Flags2;                              // 0x06
  UCHAR Reserved : 4;                        // 0x07  bits 0 4
  UCHAR Version : 4;                         // 0x07  bits 4 4
  ERESOURCE* Resource;                       // 0x08
  ERESOURCE* PagingIoResource;               // 0x10
  LARGE_INTEGER AllocationSize;              // 0x18
  LARGE_INTEGER FileSize;                    // 0x20
  LARGE_INTEGER ValidDataLength;             // 0x28
  FAST_MUTEX* FastMutex;                     // 0x30
  LIST_ENTRY FilterContexts;                 // 0x38
  EX_PUSH_LOCK PushLock;                     // 0x48
  PVOID* FileContextSupportPointer;          // 0x50
  PVOID Oplock;                              // 0x58
  PVOID ReservedContext;                     // 0x60
} FSRTL_ADVANCED_FCB_HEADER;

FORCEINLINE IO_STACK_LOCATION* IoGetCurrentIrpStackLocation(IRP* Irp) {
  return Irp->Tail.Overlay.CurrentStackLocation;
}

FORCEINLINE IO_STACK_LOCATION* IoGetNextIrpStackLocation(IRP* Irp) {
  return Irp->Tail.Overlay.CurrentStackLocation - 1;
}
