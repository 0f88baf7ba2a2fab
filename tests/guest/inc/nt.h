// What ntoskrnl.exe exports to drivers, with the signatures of the public headers (simplified where a
// parameter has no use here).
#pragma once
#include "io.h"
#include "ps.h"

NTKERNELAPI void* memset(void* to, int value, ULONG64 size);
NTKERNELAPI void* memcpy(void* to, const void* from, ULONG64 size);
NTKERNELAPI ULONG DbgPrint(const char* format, ...);

NTKERNELAPI void RtlInitUnicodeString(UNICODE_STRING* string, const WCHAR* text);
NTKERNELAPI WCHAR RtlUpcaseUnicodeChar(WCHAR c);
NTKERNELAPI BOOLEAN RtlEqualUnicodeString(const UNICODE_STRING* a, const UNICODE_STRING* b,
                                          BOOLEAN ignore_case);

typedef struct _GENERATE_NAME_CONTEXT {
  ULONG LastIndexValue;
  UCHAR NameLength;
  WCHAR NameBuffer[8];
} GENERATE_NAME_CONTEXT;
NTKERNELAPI void RtlGenerate8dot3Name(const UNICODE_STRING* name, BOOLEAN allow_extended,
                                      GENERATE_NAME_CONTEXT* context, UNICODE_STRING* name8dot3);

NTKERNELAPI PVOID ExAllocatePoolWithTag(ULONG type, ULONG64 size, ULONG tag);
NTKERNELAPI void ExFreePoolWithTag(PVOID block, ULONG tag);
NTKERNELAPI NTSTATUS ExInitializeResourceLite(ERESOURCE* resource);
NTKERNELAPI BOOLEAN ExAcquireResourceExclusiveLite(ERESOURCE* resource, BOOLEAN wait);
NTKERNELAPI BOOLEAN ExAcquireResourceSharedLite(ERESOURCE* resource, BOOLEAN wait);
NTKERNELAPI void ExReleaseResourceLite(ERESOURCE* resource);

NTKERNELAPI void KeInitializeEvent(KEVENT* event, ULONG type, BOOLEAN state);
NTKERNELAPI LONG KeSetEvent(KEVENT* event, LONG increment, BOOLEAN wait);
NTKERNELAPI void KeInitializeMutant(KMUTANT* mutant, BOOLEAN initial_owner);
NTKERNELAPI LONG KeReleaseMutant(KMUTANT* mutant, LONG increment, BOOLEAN abandoned, BOOLEAN wait);
NTKERNELAPI NTSTATUS KeWaitForSingleObject(PVOID object, KWAIT_REASON reason, CHAR mode, BOOLEAN alertable,
                                           LARGE_INTEGER* timeout);
NTKERNELAPI NTSTATUS KeWaitForMultipleObjects(ULONG count, PVOID objects[], ULONG wait_type,
                                              KWAIT_REASON reason, CHAR mode, BOOLEAN alertable,
                                              LARGE_INTEGER* timeout, KWAIT_BLOCK* blocks);
NTKERNELAPI ULONG64 KeAcquireSpinLockRaiseToDpc(volatile ULONG64* lock);
NTKERNELAPI void KeReleaseSpinLock(volatile ULONG64* lock, ULONG64 irql);

NTKERNELAPI PVOID MmAllocateSystemCachePages(ULONG64 pages);

NTKERNELAPI NTSTATUS IoCreateDevice(DRIVER_OBJECT* driver, ULONG extension_size, UNICODE_STRING* name,
                                    ULONG type, ULONG characteristics, BOOLEAN exclusive,
                                    DEVICE_OBJECT** device);
NTKERNELAPI NTSTATUS IoGetDeviceObjectPointer(UNICODE_STRING* name, ULONG access, FILE_OBJECT** file,
                                              DEVICE_OBJECT** device);
NTKERNELAPI NTSTATUS IofCallDriver(DEVICE_OBJECT* device, IRP* irp);
NTKERNELAPI void IofCompleteRequest(IRP* irp, CHAR priority_boost);

NTKERNELAPI extern EPROCESS* PsInitialSystemProcess;
