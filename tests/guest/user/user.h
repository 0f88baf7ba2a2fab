// What programs of the guest call.
#pragma once
#include "../inc/io.h"
#include "../inc/work.h"

__declspec(dllimport) NTSTATUS NtWaitForSingleObject(HANDLE handle, BOOLEAN alertable,
                                                     LARGE_INTEGER* timeout);
__declspec(dllimport) NTSTATUS NtRemoveIoCompletion(HANDLE handle, PVOID* key, PVOID* context,
                                                    IO_STATUS_BLOCK* status, LARGE_INTEGER* timeout);
__declspec(dllimport) NTSTATUS NtSetInformationFile(HANDLE handle, IO_STATUS_BLOCK* status, PVOID information,
                                                    ULONG length, ULONG information_class);
__declspec(dllimport) NTSTATUS NtDelayExecution(BOOLEAN alertable, LARGE_INTEGER* interval);
__declspec(dllimport) NTSTATUS NtCreateFile(HANDLE* handle, ULONG access, OBJECT_ATTRIBUTES* attributes,
                                            IO_STATUS_BLOCK* status, LARGE_INTEGER* size,
                                            ULONG file_attributes, ULONG share, ULONG disposition,
                                            ULONG options, PVOID ea, ULONG ea_length);

static inline void copy_text(UNICODE_STRING* string, WCHAR* text) {
  USHORT length = 0;
  while (text[length]) length++;
  *string = (UNICODE_STRING){(USHORT)(length * 2), (USHORT)(length * 2 + 2), text};
}

static inline NTSTATUS open_file(WCHAR* path, ULONG disposition, HANDLE* handle) {
  UNICODE_STRING name;
  copy_text(&name, path);
  OBJECT_ATTRIBUTES attributes = {sizeof attributes, NULL, &name, 0x40, NULL, NULL};
  IO_STATUS_BLOCK status;
  return NtCreateFile(handle, FILE_READ_DATA | FILE_WRITE_DATA | SYNCHRONIZE, &attributes, &status, NULL,
                      0x80, 3, disposition, FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0);
}
