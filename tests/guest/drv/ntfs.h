// The file system's own structures. The real ones are in no public PDB; these only have the public head.
#pragma once
#include "../inc/nt.h"

typedef struct _FCB {
  FSRTL_ADVANCED_FCB_HEADER Header;  // FILE_OBJECT.FsContext points here
  ERESOURCE Resource, PagingIoResource;
  LIST_ENTRY Links;
  UNICODE_STRING Name;  // full path on the volume
  ULONG64 FileReference;
  UCHAR* IndexBuffers;  // directories: the part of $I30 that is in the cache
  ULONG CachedBuffers;
  ULONG TotalBuffers;
} FCB;

#define INDEX_BUFFER_SIZE 4096

// index.c
void NtfsFillIndex(FCB* directory, ULONG cached_buffers, ULONG total_buffers);
BOOLEAN NtfsLookupEntry(FCB* directory, const UNICODE_STRING* name);
