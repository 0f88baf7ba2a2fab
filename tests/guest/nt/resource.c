// Executive resources. Rules from the public documentation of ExAcquireResource...Lite and of !locks: the
// exclusive owner and the first shared one stand in OwnerEntry, more shared ones in OwnerTable, whose first
// slot holds its size; who must wait hangs an entry on its own stack into a ring.
#include "ntp.h"

LIST_ENTRY ExpSystemResourcesList = {&ExpSystemResourcesList, &ExpSystemResourcesList};
ULONG ExResourceTimeoutCount = 648000;

NTSTATUS ExInitializeResourceLite(ERESOURCE* resource) {
  memset(resource, 0, sizeof *resource);
  InsertTailList(&ExpSystemResourcesList, &resource->SystemResourcesList);
  return STATUS_SUCCESS;
}

// A free owner slot. The table grows by four; its first slot is its head.
static OWNER_ENTRY* ExpFindFreeEntry(ERESOURCE* resource) {
  if (resource->OwnerEntry.OwnerThread == 0) return &resource->OwnerEntry;
  ULONG size = resource->OwnerTable == NULL ? 0 : resource->OwnerTable[0].TableSize;
  for (ULONG i = 1; i < size; i++)
    if (resource->OwnerTable[i].OwnerThread == 0) return &resource->OwnerTable[i];
  ULONG new_size = size == 0 ? 3 : size + 4;
  OWNER_ENTRY* table = ExAllocatePoolWithTag(NonPagedPool, new_size * sizeof *table, TAG('R', 'e', 'T', 'a'));
  memset(table, 0, new_size * sizeof *table);
  if (size != 0) {
    memcpy(table, resource->OwnerTable, size * sizeof *table);
    ExFreePoolWithTag(resource->OwnerTable, TAG('R', 'e', 'T', 'a'));
  }
  table[0].TableSize = new_size;
  resource->OwnerTable = table;
  return &table[size == 0 ? 1 : size];
}

static OWNER_ENTRY* ExpFindOwner(ERESOURCE* resource, ULONG64 thread) {
  if (resource->OwnerEntry.OwnerThread == thread) return &resource->OwnerEntry;
  if (resource->OwnerTable != NULL)
    for (ULONG i = 1; i < resource->OwnerTable[0].TableSize; i++)
      if (resource->OwnerTable[i].OwnerThread == thread) return &resource->OwnerTable[i];
  return NULL;
}

static void ExpAddOwner(ERESOURCE* resource, KTHREAD* thread) {
  OWNER_ENTRY* entry = ExpFindFreeEntry(resource);
  entry->OwnerThread = (ULONG64)thread;
  entry->OwnerCount = 1;
  resource->ActiveEntries++;
  resource->ActiveCount = 1;
}

// Waits until ExReleaseResourceLite has made this thread an owner.
void ExpWaitForResource(ERESOURCE* resource, PVOID* ring, ULONG* count) {
  KWAIT_CHAIN_ENTRY entry;
  entry.Thread = KeGetCurrentThread();
  KeInitializeEvent(&entry.Event, EventSynchronizationObject, FALSE);
  if (*ring == NULL) {
    InitializeListHead(&entry.ListEntry);
    *ring = &entry;
  } else {
    InsertTailList(&((KWAIT_CHAIN_ENTRY*)*ring)->ListEntry, &entry.ListEntry);
  }
  (*count)++;
  resource->ContentionCount++;
  KeReleaseSpinLock(&resource->SpinLock, PASSIVE_LEVEL);
  KeWaitForSingleObject(&entry.Event, WrResource, KernelMode, FALSE, NULL);
}

// Both return with the resource's spin lock released.
BOOLEAN ExpAcquireResourceExclusiveLite(ERESOURCE* resource) {
  KTHREAD* thread = KeGetCurrentThread();
  if (resource->ActiveEntries == 0) {
    ExpAddOwner(resource, thread);
    resource->Flag |= ResourceOwnedExclusive;
    KeReleaseSpinLock(&resource->SpinLock, PASSIVE_LEVEL);
    return TRUE;
  }
  ExpWaitForResource(resource, &resource->ExclusiveWaiters, &resource->NumberOfExclusiveWaiters);
  return TRUE;
}

// Shared access waits behind exclusive waiters, or they would never get their turn.
BOOLEAN ExpAcquireResourceSharedLite(ERESOURCE* resource) {
  KTHREAD* thread = KeGetCurrentThread();
  if (resource->ActiveEntries == 0 ||
      (!(resource->Flag & ResourceOwnedExclusive) && resource->NumberOfExclusiveWaiters == 0)) {
    ExpAddOwner(resource, thread);
    KeReleaseSpinLock(&resource->SpinLock, PASSIVE_LEVEL);
    return TRUE;
  }
  ExpWaitForResource(resource, &resource->SharedWaiters, &resource->NumberOfSharedWaiters);
  return TRUE;
}

// A thread that owns it already counts up.
static BOOLEAN ExpAcquireAgain(ERESOURCE* resource) {
  OWNER_ENTRY* own = ExpFindOwner(resource, (ULONG64)KeGetCurrentThread());
  if (own == NULL) return FALSE;
  own->OwnerCount++;
  KeReleaseSpinLock(&resource->SpinLock, PASSIVE_LEVEL);
  return TRUE;
}

BOOLEAN ExAcquireResourceExclusiveLite(ERESOURCE* resource, BOOLEAN wait) {
  KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
  if (resource->Flag & ResourceOwnedExclusive && ExpAcquireAgain(resource)) return TRUE;
  if (!wait && resource->ActiveEntries != 0) {
    KeReleaseSpinLock(&resource->SpinLock, PASSIVE_LEVEL);
    return FALSE;
  }
  return ExpAcquireResourceExclusiveLite(resource);
}

BOOLEAN ExAcquireResourceSharedLite(ERESOURCE* resource, BOOLEAN wait) {
  KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
  if (ExpAcquireAgain(resource)) return TRUE;
  return ExpAcquireResourceSharedLite(resource);
}

// The first waiter of a ring becomes an owner and goes on.
static void ExpWakeFirst(ERESOURCE* resource, PVOID* ring, ULONG* count) {
  KWAIT_CHAIN_ENTRY* first = *ring;
  *ring = IsListEmpty(&first->ListEntry) ? NULL : (PVOID)first->ListEntry.Flink;
  RemoveEntryList(&first->ListEntry);
  (*count)--;
  ExpAddOwner(resource, first->Thread);
  KeSetEvent(&first->Event, 0, FALSE);
}

void ExReleaseResourceLite(ERESOURCE* resource) {
  KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
  OWNER_ENTRY* own = ExpFindOwner(resource, (ULONG64)KeGetCurrentThread());
  if (own != NULL && --own->OwnerCount == 0) {
    own->OwnerThread = 0;
    if (--resource->ActiveEntries == 0) {
      resource->ActiveCount = 0;
      resource->Flag &= (USHORT)~ResourceOwnedExclusive;
      if (resource->NumberOfExclusiveWaiters != 0) {
        resource->Flag |= ResourceOwnedExclusive;
        ExpWakeFirst(resource, &resource->ExclusiveWaiters, &resource->NumberOfExclusiveWaiters);
      }
      while (!(resource->Flag & ResourceOwnedExclusive) && resource->NumberOfSharedWaiters != 0)
        ExpWakeFirst(resource, &resource->SharedWaiters, &resource->NumberOfSharedWaiters);
    }
  }
  KeReleaseSpinLock(&resource->SpinLock, PASSIVE_LEVEL);
}
