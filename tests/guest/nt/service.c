// System calls: the table that KiSystemCall64 looks into, and the services that only wait. The numbers are
// those of build 19041 as public tables list them; user/ntdll.S has the other half.
#include "ntp.h"

#define SERVICES 0x60

PVOID KiServiceTable[SERVICES];
ULONG KiServiceLimit = SERVICES;

NTSTATUS ObWaitForSingleObject(HANDLE handle, CHAR mode, BOOLEAN alertable, LARGE_INTEGER* timeout) {
  PVOID object;
  NTSTATUS status = ObReferenceObjectByHandle(handle, NULL, &object);
  if (!NT_SUCCESS(status)) return status;
  return KeWaitForSingleObject(object, UserRequest, mode, alertable, timeout);
}

NTSTATUS NtWaitForSingleObject(HANDLE handle, BOOLEAN alertable, LARGE_INTEGER* timeout) {
  return ObWaitForSingleObject(handle, UserMode, alertable, timeout);
}

NTSTATUS NtDelayExecution(BOOLEAN alertable, LARGE_INTEGER* interval) {
  LARGE_INTEGER copy = *interval;
  return KeDelayExecutionThread(UserMode, alertable, &copy);
}

NTSTATUS IoRemoveIoCompletion(KQUEUE* queue, CHAR mode, BOOLEAN alertable) {
  KeRemoveQueueEx(queue, mode, alertable);
  return STATUS_SUCCESS;
}

NTSTATUS NtRemoveIoCompletion(HANDLE handle, PVOID* key, PVOID* context, IO_STATUS_BLOCK* status,
                              LARGE_INTEGER* timeout) {
  PVOID queue;
  NTSTATUS result = ObReferenceObjectByHandle(handle, IoCompletionObjectType, &queue);
  if (!NT_SUCCESS(result)) return result;
  return IoRemoveIoCompletion(queue, UserMode, FALSE);
}

void KiInitializeSystemCall(void) {
  KiServiceTable[0x04] = NtWaitForSingleObject;
  KiServiceTable[0x09] = NtRemoveIoCompletion;
  KiServiceTable[0x34] = NtDelayExecution;
  KiServiceTable[0x27] = NtSetInformationFile;
  KiServiceTable[0x55] = NtCreateFile;
}
