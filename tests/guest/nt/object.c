// Object manager: objects with their headers, types, directories, names, handles.
#include "ntp.h"

OBJECT_TYPE *ObpTypeObjectType, *ObpDirectoryObjectType, *ObpSymbolicLinkObjectType;
NTKERNELAPI OBJECT_TYPE *ExEventObjectType, *ExMutantObjectType, *ExSemaphoreObjectType, *IoDriverObjectType,
    *IoDeviceObjectType, *IoFileObjectType, *PsProcessType, *PsThreadType, *SeTokenObjectType;
OBJECT_TYPE* IoCompletionObjectType;
OBJECT_DIRECTORY *ObpRootDirectoryObject, *ObpTypeDirectoryObject;
OBJECT_TYPE* ObTypeIndexTable[256];
UCHAR ObHeaderCookie = 0x9d;

#define HASH_BUCKETS COUNT_OF(((OBJECT_DIRECTORY*)0)->HashBuckets)

static ULONG ObpHash(const UNICODE_STRING* name) {
  ULONG hash = 0;
  for (ULONG i = 0; i < name->Length / 2; i++)
    hash += (hash << 1) + (hash >> 1) + RtlUpcaseUnicodeChar(name->Buffer[i]);
  return hash;
}

static void ObpInsertDirectoryEntry(OBJECT_DIRECTORY* directory, const UNICODE_STRING* name, PVOID object) {
  OBJECT_DIRECTORY_ENTRY* entry = ExAllocatePoolWithTag(PagedPool, sizeof *entry, TAG('O', 'b', 'D', 'i'));
  entry->HashValue = ObpHash(name);
  entry->Object = object;
  OBJECT_DIRECTORY_ENTRY** bucket = &directory->HashBuckets[entry->HashValue % HASH_BUCKETS];
  entry->ChainLink = *bucket;
  *bucket = entry;
}

static OBJECT_HEADER* ObpHeader(PVOID object) {
  return CONTAINING_RECORD(object, OBJECT_HEADER, Body);
}

static UCHAR ObpEncodeIndex(OBJECT_HEADER* header, UCHAR index) {
  return (UCHAR)(index ^ ObHeaderCookie ^ (UCHAR)((ULONG64)header >> 8));
}

OBJECT_TYPE* ObGetObjectType(PVOID object) {
  OBJECT_HEADER* header = ObpHeader(object);
  return ObTypeIndexTable[ObpEncodeIndex(header, header->TypeIndex)];
}

static ULONG ObpPoolTag(UCHAR index) {
  if (IoFileObjectType != NULL && index == IoFileObjectType->Index) return TAG('F', 'i', 'l', 'e');
  if (PsProcessType != NULL && index == PsProcessType->Index) return TAG('P', 'r', 'o', 'c');
  if (PsThreadType != NULL && index == PsThreadType->Index) return TAG('T', 'h', 'r', 'e');
  return TAG('O', 'b', 'j', 'c');
}

// Header and optional headers stand before the object: name information, then (nearest) the creator's.
static PVOID ObpCreateObject(UCHAR index, ULONG64 size, OBJECT_DIRECTORY* directory,
                             const UNICODE_STRING* name, BOOLEAN creator) {
  ULONG64 before = (name != NULL ? sizeof(OBJECT_HEADER_NAME_INFO) : 0) +
                   (creator ? sizeof(OBJECT_HEADER_CREATOR_INFO) : 0);
  ULONG64 total = before + OFFSET_OF(OBJECT_HEADER, Body) + size;
  UCHAR* block = ExAllocatePoolWithTag(NonPagedPool, total, ObpPoolTag(index));
  memset(block, 0, total);
  OBJECT_HEADER* header = (OBJECT_HEADER*)(block + before);
  header->PointerCount = 1;
  header->TypeIndex = ObpEncodeIndex(header, index);
  header->InfoMask =
      (UCHAR)((name != NULL ? OB_INFOMASK_NAME : 0) | (creator ? OB_INFOMASK_CREATOR_INFO : 0));
  header->Flags = 0x10;  // permanent
  if (creator) InitializeListHead(&((OBJECT_HEADER_CREATOR_INFO*)header - 1)->TypeList);
  PVOID object = &header->Body;
  if (name != NULL) {
    OBJECT_HEADER_NAME_INFO* info = (OBJECT_HEADER_NAME_INFO*)block;
    info->Directory = directory;
    info->Name.Length = name->Length;
    info->Name.MaximumLength = (USHORT)(name->Length + 2);
    info->Name.Buffer = ExAllocatePoolWithTag(PagedPool, info->Name.MaximumLength, TAG('O', 'b', 'N', 'm'));
    memcpy(info->Name.Buffer, name->Buffer, name->Length);
    info->Name.Buffer[name->Length / 2] = 0;
    info->ReferenceCount = 1;
    if (directory != NULL) ObpInsertDirectoryEntry(directory, name, object);
  }
  return object;
}

PVOID ObCreateObject(OBJECT_TYPE* type, ULONG64 size, OBJECT_DIRECTORY* directory,
                     const UNICODE_STRING* name) {
  type->TotalNumberOfObjects++;
  // Types, and only they, keep a list of their objects: those have a creator's header.
  return ObpCreateObject(type->Index, size, directory, name, type == ObpTypeObjectType);
}

OBJECT_DIRECTORY* ObpCreateDirectory(OBJECT_DIRECTORY* parent, const WCHAR* text) {
  UNICODE_STRING name;
  RtlInitUnicodeString(&name, text);
  return ObCreateObject(ObpDirectoryObjectType, sizeof(OBJECT_DIRECTORY), parent, &name);
}

void ObpCreateSymbolicLink(OBJECT_DIRECTORY* parent, const WCHAR* text, const WCHAR* target) {
  UNICODE_STRING name;
  RtlInitUnicodeString(&name, text);
  OBJECT_SYMBOLIC_LINK* link = ObCreateObject(ObpSymbolicLinkObjectType, sizeof *link, parent, &name);
  UNICODE_STRING value;
  RtlInitUnicodeString(&value, target);
  link->LinkTarget = value;
  link->LinkTarget.Buffer = ExAllocatePoolWithTag(PagedPool, value.MaximumLength, TAG('S', 'y', 'm', 'T'));
  memcpy(link->LinkTarget.Buffer, value.Buffer, value.MaximumLength);
}

static OBJECT_TYPE* ObpCreateObjectType(UCHAR index, const WCHAR* text) {
  UNICODE_STRING name;
  RtlInitUnicodeString(&name, text);
  OBJECT_TYPE* type = ObpCreateObject(2, sizeof *type, ObpTypeDirectoryObject, &name, TRUE);
  InitializeListHead(&type->TypeList);
  InitializeListHead(&type->CallbackList);
  type->Index = index;
  type->Name =
      ((OBJECT_HEADER_NAME_INFO*)((UCHAR*)ObpHeader(type) - sizeof(OBJECT_HEADER_CREATOR_INFO)) - 1)->Name;
  ObTypeIndexTable[index] = type;
  return type;
}

void ObInitSystem(void) {
  // The two lowest indexes are no types; the second one is a value that no pointer has.
  ObTypeIndexTable[1] = (OBJECT_TYPE*)0xbad0b0b0;
  ObpTypeObjectType = ObpCreateObjectType(2, L"Type");
  ObpDirectoryObjectType = ObpCreateObjectType(3, L"Directory");
  ObpSymbolicLinkObjectType = ObpCreateObjectType(4, L"SymbolicLink");
  SeTokenObjectType = ObpCreateObjectType(5, L"Token");
  PsProcessType = ObpCreateObjectType(7, L"Process");
  PsThreadType = ObpCreateObjectType(8, L"Thread");
  ExEventObjectType = ObpCreateObjectType(16, L"Event");
  ExMutantObjectType = ObpCreateObjectType(17, L"Mutant");
  ExSemaphoreObjectType = ObpCreateObjectType(19, L"Semaphore");
  IoDriverObjectType = ObpCreateObjectType(34, L"Driver");
  IoDeviceObjectType = ObpCreateObjectType(33, L"Device");
  IoCompletionObjectType = ObpCreateObjectType(35, L"IoCompletion");
  IoFileObjectType = ObpCreateObjectType(37, L"File");
  UNICODE_STRING root;
  RtlInitUnicodeString(&root, L"\\");
  ObpRootDirectoryObject = ObCreateObject(ObpDirectoryObjectType, sizeof(OBJECT_DIRECTORY), NULL, &root);
  ObpTypeDirectoryObject = ObpCreateDirectory(ObpRootDirectoryObject, L"ObjectTypes");
  // The first types were made before there was a directory to put them into.
  for (ULONG i = 2; i < 256; i++) {
    OBJECT_TYPE* type = ObTypeIndexTable[i];
    if (type == NULL) continue;
    OBJECT_HEADER_NAME_INFO* info =
        (OBJECT_HEADER_NAME_INFO*)((UCHAR*)ObpHeader(type) - sizeof(OBJECT_HEADER_CREATOR_INFO)) - 1;
    info->Directory = ObpTypeDirectoryObject;
    ObpInsertDirectoryEntry(ObpTypeDirectoryObject, &info->Name, type);
  }
  ObpCreateDirectory(ObpRootDirectoryObject, L"GLOBAL??");
  ObpCreateDirectory(ObpRootDirectoryObject, L"BaseNamedObjects");
}

// ---- names ----

PVOID ObpLookupDirectoryEntry(OBJECT_DIRECTORY* directory, const UNICODE_STRING* name) {
  ULONG hash = ObpHash(name);
  for (OBJECT_DIRECTORY_ENTRY* e = directory->HashBuckets[hash % HASH_BUCKETS]; e != NULL; e = e->ChainLink) {
    UCHAR* header = (UCHAR*)ObpHeader(e->Object);
    if (((OBJECT_HEADER*)header)->InfoMask & OB_INFOMASK_CREATOR_INFO)
      header -= sizeof(OBJECT_HEADER_CREATOR_INFO);
    if (RtlEqualUnicodeString(&((OBJECT_HEADER_NAME_INFO*)header - 1)->Name, name, TRUE)) return e->Object;
  }
  return NULL;
}

// One of the directories at the root.
OBJECT_DIRECTORY* ObpLookupRoot(const WCHAR* text) {
  UNICODE_STRING name;
  RtlInitUnicodeString(&name, text);
  return ObpLookupDirectoryEntry(ObpRootDirectoryObject, &name);
}

// Cuts the first component off a path that begins with a separator.
static UNICODE_STRING ObpNextComponent(UNICODE_STRING* path) {
  UNICODE_STRING part = {0, 0, path->Buffer + 1};
  path->Buffer++;
  path->Length -= 2;
  while (path->Length != 0 && *path->Buffer != '\\') {
    path->Buffer++;
    path->Length -= 2;
    part.Length += 2;
  }
  return part;
}

// Directories and symbolic links are followed here; a device takes the rest of the name into its parse
// routine.
NTSTATUS ObpLookupObjectName(const UNICODE_STRING* name, PVOID parse_context, PVOID* object) {
  UNICODE_STRING rest = *name;
  PVOID at = ObpRootDirectoryObject;
  for (;;) {
    OBJECT_TYPE* type = ObGetObjectType(at);
    if (type == IoDeviceObjectType) return IopParseDevice(at, parse_context, &rest, object);
    if (type == ObpSymbolicLinkObjectType) {
      UNICODE_STRING target = ((OBJECT_SYMBOLIC_LINK*)at)->LinkTarget;
      for (at = ObpRootDirectoryObject; at != NULL && target.Length != 0;) {
        UNICODE_STRING part = ObpNextComponent(&target);
        at = ObpLookupDirectoryEntry(at, &part);
      }
    } else if (type == ObpDirectoryObjectType && rest.Length != 0) {
      UNICODE_STRING part = ObpNextComponent(&rest);
      // \?? is the caller's view of \GLOBAL??.
      if (at == ObpRootDirectoryObject && part.Length == 4 && part.Buffer[0] == '?')
        RtlInitUnicodeString(&part, L"GLOBAL??");
      at = ObpLookupDirectoryEntry(at, &part);
    } else {
      *object = at;
      return STATUS_SUCCESS;
    }
    if (at == NULL) return STATUS_OBJECT_NAME_NOT_FOUND;
  }
}

NTSTATUS ObOpenObjectByNameEx(OBJECT_ATTRIBUTES* attributes, ULONG access, PVOID parse_context,
                              HANDLE* handle) {
  PVOID object = NULL;
  NTSTATUS status = ObpLookupObjectName(attributes->ObjectName, parse_context, &object);
  if (!NT_SUCCESS(status)) return status;
  *handle = ObpCreateHandle(PsGetCurrentProcess(), object, access);
  return STATUS_SUCCESS;
}

// ---- handles ----

HANDLE ObpCreateHandle(EPROCESS* process, PVOID object, ULONG access) {
  OBJECT_HEADER* header = ObpHeader(object);
  header->HandleCount++;
  header->PointerCount += 0x7fff;  // references that a handle takes in advance, since Windows 8
  ObGetObjectType(object)->TotalNumberOfHandles++;
  return ExCreateHandle(process->ObjectTable, header, access);
}

NTSTATUS ObReferenceObjectByHandle(HANDLE handle, OBJECT_TYPE* type, PVOID* object) {
  HANDLE_TABLE_ENTRY* entry = ExpLookupHandleTableEntry(PsGetCurrentProcess()->ObjectTable, (ULONG64)handle);
  if (entry == NULL || entry->LowValue == 0) return STATUS_INVALID_HANDLE;
  OBJECT_HEADER* header = (OBJECT_HEADER*)((ULONG64)entry->ObjectPointerBits << 4 | 0xFFFF000000000000ull);
  *object = &header->Body;
  if (type != NULL && ObGetObjectType(*object) != type) return STATUS_INVALID_HANDLE;
  return STATUS_SUCCESS;
}
