// A directory's index: buffers of $I30 as they lie in the cache, in the on-disk format that the Linux
// kernel's and other public NTFS descriptions give. Only a window of the directory is real; what lies behind
// it repeats it.
#include "ntfs.h"

typedef struct {
  ULONG64 FileReference;
  USHORT Length, KeyLength, Flags, Reserved;
  // $FILE_NAME
  ULONG64 ParentReference;
  LONG64 Created, Modified, Changed, Accessed;
  ULONG64 AllocatedSize, DataSize;
  ULONG FileAttributes, ReparseTag;
  UCHAR NameLength, NameSpace;
  WCHAR Name[1];
} INDEX_ENTRY;

#define FILE_NAME_SIZE 0x42
#define NAME_SPACE_WIN32 1
#define NAME_SPACE_DOS 2

static USHORT NtfsEntryLength(USHORT name_length) {
  return (USHORT)((0x10 + FILE_NAME_SIZE + name_length + 7) & ~7);
}

static INDEX_ENTRY* NtfsAddEntry(FCB* directory, INDEX_ENTRY* at, ULONG64 number, UCHAR name_space,
                                 const UNICODE_STRING* name) {
  at->FileReference = 0x12000 + number / 2 | 1ull << 48;
  at->Length = NtfsEntryLength(name->Length);
  at->KeyLength = FILE_NAME_SIZE + name->Length;
  at->ParentReference = directory->FileReference;
  at->Created = at->Modified = at->Changed = at->Accessed = 134120012000000000ll + (LONG64)number * 370000000;
  at->FileAttributes = 0x20;  // archive
  at->NameLength = (UCHAR)(name->Length / 2);
  at->NameSpace = name_space;
  memcpy(at->Name, name->Buffer, name->Length);
  return (INDEX_ENTRY*)((UCHAR*)at + at->Length);
}

// sess_ and 26 characters, as PHP names its session files.
static void NtfsSessionName(UNICODE_STRING* name, ULONG number) {
  static const CHAR digits[] = "0123456789abcdefghijklmnopqrstuv";
  ULONG64 seed = (number + 1) * 0x9e3779b97f4a7c15ull;
  for (ULONG i = 0; i < 26; i++) {
    if (i == 12) seed = (seed ^ number) * 0xbf58476d1ce4e5b9ull;
    name->Buffer[5 + i] = (WCHAR)digits[(seed >> (i % 12 * 5)) & 31];
  }
  name->Length = 31 * 2;
}

static void NtfsFillBuffer(FCB* directory, ULONG vcn) {
  UCHAR* buffer = directory->IndexBuffers + vcn * INDEX_BUFFER_SIZE;
  WCHAR long_text[32], short_text[12];
  memcpy(long_text, L"sess_", 10);
  UNICODE_STRING long_name = {31 * 2, sizeof long_text, long_text},
                 short_name = {0, sizeof short_text, short_text};
  *(ULONG*)buffer = TAG('I', 'N', 'D', 'X');
  *(USHORT*)(buffer + 4) = 0x28;  // update sequence array: its number, then the last word of each sector
  *(USHORT*)(buffer + 6) = 9;
  *(ULONG64*)(buffer + 0x10) = vcn;
  *(ULONG*)(buffer + 0x18) = 0x28;
  *(ULONG*)(buffer + 0x20) = INDEX_BUFFER_SIZE - 0x18;
  INDEX_ENTRY* at = (INDEX_ENTRY*)(buffer + 0x40);
  ULONG64 number = vcn * 32;
  while ((UCHAR*)at + NtfsEntryLength(31 * 2) + NtfsEntryLength(8 * 2) + 0x10 <= buffer + INDEX_BUFFER_SIZE) {
    NtfsSessionName(&long_name, (ULONG)number);
    GENERATE_NAME_CONTEXT context = {(ULONG)number % 9, 0};
    RtlGenerate8dot3Name(&long_name, TRUE, &context, &short_name);
    at = NtfsAddEntry(directory, at, number++, NAME_SPACE_WIN32, &long_name);
    at = NtfsAddEntry(directory, at, number++, NAME_SPACE_DOS, &short_name);
  }
  at->Length = 0x10;
  at->Flags = 2;  // the end
  *(ULONG*)(buffer + 0x1c) = (ULONG)((UCHAR*)at + 0x10 - buffer) - 0x18;
  // The file system puts the sectors' last words back before it caches a buffer.
  *(USHORT*)(buffer + 0x28) = 1;
  for (ULONG i = 1; i <= 8; i++) *(USHORT*)(buffer + 0x28 + i * 2) = *(USHORT*)(buffer + i * 512 - 2);
}

void NtfsFillIndex(FCB* directory, ULONG cached_buffers, ULONG total_buffers) {
  directory->IndexBuffers = MmAllocateSystemCachePages(cached_buffers);
  directory->CachedBuffers = cached_buffers;
  directory->TotalBuffers = total_buffers;
  directory->Header.FileSize.QuadPart = directory->Header.AllocationSize.QuadPart =
      (LONG64)total_buffers * INDEX_BUFFER_SIZE;
  for (ULONG vcn = 0; vcn < cached_buffers; vcn++) NtfsFillBuffer(directory, vcn);
}

static INDEX_ENTRY* NtfsFindInBuffer(UCHAR* buffer, const UNICODE_STRING* name) {
  for (INDEX_ENTRY* e = (INDEX_ENTRY*)(buffer + 0x40); !(e->Flags & 2);
       e = (INDEX_ENTRY*)((UCHAR*)e + e->Length)) {
    UNICODE_STRING key = {(USHORT)(e->NameLength * 2), (USHORT)(e->NameLength * 2), e->Name};
    if (RtlEqualUnicodeString(&key, name, TRUE)) return e;
  }
  return NULL;
}

// Buffer after buffer: a search for a name that is not there reads the whole directory.
static INDEX_ENTRY* NtfsFindIndexEntry(FCB* directory, const UNICODE_STRING* name) {
  for (ULONG vcn = 0; vcn < directory->TotalBuffers; vcn++) {
    INDEX_ENTRY* entry =
        NtfsFindInBuffer(directory->IndexBuffers + vcn % directory->CachedBuffers * INDEX_BUFFER_SIZE, name);
    if (entry != NULL) return entry;
  }
  return NULL;
}

BOOLEAN NtfsLookupEntry(FCB* directory, const UNICODE_STRING* name) {
  if (directory->TotalBuffers == 0) return FALSE;
  return NtfsFindIndexEntry(directory, name) != NULL;
}
