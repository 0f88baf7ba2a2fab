// Handle tables: one page of entries, or a page of pointers to such pages once a process has more than 255
// handles.
#include "ntp.h"

#define ENTRIES_PER_PAGE (PAGE_SIZE / sizeof(HANDLE_TABLE_ENTRY))

LIST_ENTRY HandleTableListHead = {&HandleTableListHead, &HandleTableListHead};

static HANDLE_TABLE_ENTRY* ExpAllocateHandlePage(void) {
  HANDLE_TABLE_ENTRY* page = ExAllocatePoolWithTag(NonPagedPool, PAGE_SIZE, TAG('O', 'b', 't', 'b'));
  memset(page, 0, PAGE_SIZE);
  return page;
}

HANDLE_TABLE* ExCreateHandleTable(EPROCESS* process) {
  HANDLE_TABLE* table = ExAllocatePoolWithTag(PagedPool, sizeof *table, TAG('O', 'b', 't', 'b'));
  memset(table, 0, sizeof *table);
  table->TableCode = (ULONG64)ExpAllocateHandlePage();
  table->NextHandleNeedingPool = ENTRIES_PER_PAGE * 4;
  table->QuotaProcess = process;
  if (process != NULL) table->UniqueProcessId = (ULONG)(ULONG64)process->UniqueProcessId;
  InsertTailList(&HandleTableListHead, &table->HandleTableList);
  return table;
}

HANDLE_TABLE_ENTRY* ExpLookupHandleTableEntry(HANDLE_TABLE* table, ULONG64 value) {
  ULONG64 index = value / 4;
  if (value >= table->NextHandleNeedingPool) return NULL;
  if ((table->TableCode & 3) == 0) return (HANDLE_TABLE_ENTRY*)table->TableCode + index;
  HANDLE_TABLE_ENTRY** pages = (HANDLE_TABLE_ENTRY**)(table->TableCode & ~3ull);
  return pages[index / ENTRIES_PER_PAGE] + index % ENTRIES_PER_PAGE;
}

static void ExpGrowHandleTable(HANDLE_TABLE* table) {
  HANDLE_TABLE_ENTRY** pages;
  if ((table->TableCode & 3) == 0) {
    pages = (HANDLE_TABLE_ENTRY**)ExpAllocateHandlePage();
    pages[0] = (HANDLE_TABLE_ENTRY*)table->TableCode;
    table->TableCode = (ULONG64)pages | 1;
  } else {
    pages = (HANDLE_TABLE_ENTRY**)(table->TableCode & ~3ull);
  }
  pages[table->NextHandleNeedingPool / 4 / ENTRIES_PER_PAGE] = ExpAllocateHandlePage();
  table->NextHandleNeedingPool += ENTRIES_PER_PAGE * 4;
}

// `object` is what the entry is to point to: an object header, or in PspCidTable the thread or process
// itself.
static void ExpFillHandle(HANDLE_TABLE_ENTRY* entry, PVOID object, ULONG access) {
  entry->ObjectPointerBits = (ULONG64)object >> 4;
  entry->Unlocked = 1;
  entry->RefCnt = 0x7fff;
  entry->GrantedAccessBits = access & 0x1ffffff;
}

// The first entry of a page is the table's own.
HANDLE ExCreateHandle(HANDLE_TABLE* table, PVOID object, ULONG access) {
  for (ULONG64 value = 4;; value += 4) {
    if (value >= table->NextHandleNeedingPool) ExpGrowHandleTable(table);
    HANDLE_TABLE_ENTRY* entry = ExpLookupHandleTableEntry(table, value);
    if (value / 4 % ENTRIES_PER_PAGE == 0 || entry->LowValue != 0) continue;
    ExpFillHandle(entry, object, access);
    return (HANDLE)value;
  }
}

// PspCidTable: the handle is the process or thread id, which the scene chooses.
void ExpSetHandle(HANDLE_TABLE* table, ULONG64 value, PVOID object) {
  while (value >= table->NextHandleNeedingPool) ExpGrowHandleTable(table);
  ExpFillHandle(ExpLookupHandleTableEntry(table, value), object, 0);
}
