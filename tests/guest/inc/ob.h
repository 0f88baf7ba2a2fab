// Object manager ("Ob"): headers, types, directories.
#pragma once
#include "ex.h"

typedef struct _OBJECT_HEADER {  // 0x38
  LONG64 PointerCount;           // 0x00
  LONG64 HandleCount;            // 0x08
  EX_PUSH_LOCK Lock;             // 0x10
  UCHAR TypeIndex;           // 0x18  ^ ObHeaderCookie ^ bits 8..15 of the header's address, since Windows 10
  UCHAR TraceFlags;          // 0x19
  UCHAR InfoMask;            // 0x1a  which optional headers stand before this one
  UCHAR Flags;               // 0x1b
  ULONG Reserved;            // 0x1c
  PVOID ObjectCreateInfo;    // 0x20
  PVOID SecurityDescriptor;  // 0x28
  ULONG64 Body;              // 0x30  the object
} OBJECT_HEADER;

#define OB_INFOMASK_CREATOR_INFO 1
#define OB_INFOMASK_NAME 2

typedef struct _OBJECT_TYPE {      // 0xd8
  LIST_ENTRY TypeList;             // 0x00
  UNICODE_STRING Name;             // 0x10
  PVOID DefaultObject;             // 0x20
  UCHAR Index;                     // 0x28
  ULONG TotalNumberOfObjects;      // 0x2c
  ULONG TotalNumberOfHandles;      // 0x30
  ULONG HighWaterNumberOfObjects;  // 0x34
  ULONG HighWaterNumberOfHandles;  // 0x38
  ULONG64 TypeInfo[15];            // 0x40
  EX_PUSH_LOCK TypeLock;           // 0xb8
  ULONG Key;                       // 0xc0
  LIST_ENTRY CallbackList;         // 0xc8
} OBJECT_TYPE;

typedef struct _OBJECT_DIRECTORY_ENTRY {      // 0x18
  struct _OBJECT_DIRECTORY_ENTRY* ChainLink;  // 0x00
  PVOID Object;                               // 0x08
  ULONG HashValue;                            // 0x10
} OBJECT_DIRECTORY_ENTRY;

typedef struct _OBJECT_DIRECTORY {            // 0x158
  OBJECT_DIRECTORY_ENTRY* HashBuckets[37];    // 0x000
  EX_PUSH_LOCK Lock;                          // 0x128
  PVOID DeviceMap;                            // 0x130
  struct _OBJECT_DIRECTORY* ShadowDirectory;  // 0x138
  PVOID NamespaceEntry;                       // 0x140
  PVOID SessionObject;                        // 0x148
  ULONG Flags;                                // 0x150
  ULONG SessionId;                            // 0x154
} OBJECT_DIRECTORY;

typedef struct _OBJECT_HEADER_NAME_INFO {  // 0x20
  OBJECT_DIRECTORY* Directory;             // 0x00
  UNICODE_STRING Name;                     // 0x08
  LONG ReferenceCount;                     // 0x18
  ULONG Reserved;                          // 0x1c
} OBJECT_HEADER_NAME_INFO;

typedef struct _OBJECT_HEADER_CREATOR_INFO {  // 0x20
  LIST_ENTRY TypeList;                        // 0x00
  PVOID CreatorUniqueProcess;                 // 0x10
  USHORT CreatorBackTraceIndex;               // 0x18
  USHORT Reserved1;                           // 0x1a
  ULONG Reserved2;                            // 0x1c
} OBJECT_HEADER_CREATOR_INFO;

typedef struct _OBJECT_SYMBOLIC_LINK {  // 0x28
  LARGE_INTEGER CreationTime;           // 0x00
  UNICODE_STRING LinkTarget;            // 0x08
  ULONG DosDeviceDriveIndex;            // 0x18
  ULONG Flags;                          // 0x1c
  ULONG AccessMask;                     // 0x20
} OBJECT_SYMBOLIC_LINK;

typedef struct _OBJECT_NAME_INFORMATION {  // 0x10
  UNICODE_STRING Name;                     // 0x00
} OBJECT_NAME_INFORMATION;

// OBJECT_ATTRIBUTES of the public header ntdef.h: what a caller passes to name an object.
typedef struct _OBJECT_ATTRIBUTES {
  ULONG Length;
  HANDLE RootDirectory;
  UNICODE_STRING* ObjectName;
  ULONG Attributes;
  PVOID SecurityDescriptor;
  PVOID SecurityQualityOfService;
} OBJECT_ATTRIBUTES;
