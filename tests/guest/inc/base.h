// Basic types and lists, with the names of the public Windows headers (ntdef.h, wdm.h).
#pragma once

typedef char CHAR;
typedef unsigned char UCHAR, BOOLEAN;
typedef short SHORT;
typedef unsigned short USHORT, WCHAR;
typedef int LONG;
typedef unsigned int ULONG;
typedef long long LONG64;
typedef unsigned long long ULONG64;
typedef void* PVOID;
typedef PVOID HANDLE;
typedef LONG NTSTATUS;

#define NULL ((void*)0)
#define TRUE 1
#define FALSE 0
#define PAGE_SIZE 0x1000ull
#define PAGE_SHIFT 12

#define STATUS_SUCCESS ((NTSTATUS)0)
#define STATUS_PENDING ((NTSTATUS)0x103)
#define STATUS_INVALID_HANDLE ((NTSTATUS)0xC0000008)
#define STATUS_OBJECT_NAME_NOT_FOUND ((NTSTATUS)0xC0000034)
#define STATUS_INVALID_DEVICE_REQUEST ((NTSTATUS)0xC0000010)
#define NT_SUCCESS(status) ((NTSTATUS)(status) >= 0)

// Functions that stand on a stack of the scene must keep a frame of their own. The whole guest is compiled
// with -fno-inline and without tail calls; only what is marked so here disappears into its callers.
#define FORCEINLINE static inline __attribute__((always_inline, unused))
#define NORETURN __attribute__((noreturn))

// ntoskrnl exports what drivers import; drivers see the same declarations.
#ifdef NTOSKRNL
#define NTKERNELAPI __declspec(dllexport)
#else
#define NTKERNELAPI __declspec(dllimport)
#endif

#define OFFSET_OF(type, member) __builtin_offsetof(type, member)
#define CONTAINING_RECORD(address, type, member) ((type*)((UCHAR*)(address) - OFFSET_OF(type, member)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define TAG(a, b, c, d) ((ULONG)(a) | (ULONG)(b) << 8 | (ULONG)(c) << 16 | (ULONG)(d) << 24)

// Structures below are laid out as in build 10.0.19041.804. The number behind each member is its offset, the
// one behind "struct" the size; layout.py turns all of them into static assertions and compares them with
// src/symbols/facts. Members that nothing here uses are joined into Unused... arrays.

typedef struct _LIST_ENTRY {  // 0x10
  struct _LIST_ENTRY* Flink;  // 0x00
  struct _LIST_ENTRY* Blink;  // 0x08
} LIST_ENTRY;

typedef struct _SINGLE_LIST_ENTRY {  // 0x08
  struct _SINGLE_LIST_ENTRY* Next;   // 0x00
} SINGLE_LIST_ENTRY;

typedef struct _UNICODE_STRING {  // 0x10
  USHORT Length;                  // 0x00
  USHORT MaximumLength;           // 0x02
  WCHAR* Buffer;                  // 0x08
} UNICODE_STRING;

typedef union _LARGE_INTEGER {  // 0x08
  struct {
    ULONG LowPart;  // 0x00
    LONG HighPart;  // 0x04
  };
  LONG64 QuadPart;  // 0x00
} LARGE_INTEGER;

typedef union _ULARGE_INTEGER {  // 0x08
  struct {
    ULONG LowPart;   // 0x00
    ULONG HighPart;  // 0x04
  };
  ULONG64 QuadPart;  // 0x00
} ULARGE_INTEGER;

typedef struct _CLIENT_ID {  // 0x10
  PVOID UniqueProcess;       // 0x00
  PVOID UniqueThread;        // 0x08
} CLIENT_ID;

typedef struct _RTL_BALANCED_NODE {        // 0x18
  struct _RTL_BALANCED_NODE* Children[2];  // 0x00
  ULONG64 ParentValue;                     // 0x10
} RTL_BALANCED_NODE;

typedef struct _RTL_AVL_TREE {  // 0x08
  RTL_BALANCED_NODE* Root;      // 0x00
} RTL_AVL_TREE;

FORCEINLINE void InitializeListHead(LIST_ENTRY* head) {
  head->Flink = head->Blink = head;
}

FORCEINLINE BOOLEAN IsListEmpty(const LIST_ENTRY* head) {
  return head->Flink == head;
}

FORCEINLINE void InsertTailList(LIST_ENTRY* head, LIST_ENTRY* entry) {
  LIST_ENTRY* last = head->Blink;
  entry->Flink = head;
  entry->Blink = last;
  last->Flink = entry;
  head->Blink = entry;
}

FORCEINLINE void RemoveEntryList(LIST_ENTRY* entry) {
  entry->Blink->Flink = entry->Flink;
  entry->Flink->Blink = entry->Blink;
}

FORCEINLINE LIST_ENTRY* RemoveHeadList(LIST_ENTRY* head) {
  LIST_ENTRY* first = head->Flink;
  RemoveEntryList(first);
  return first;
}
