// What a thread of a user program does: the scene writes one of these onto the thread's stack.
#pragma once
#include "base.h"

enum { WORK_WAIT, WORK_SLEEP, WORK_QUEUE, WORK_OPEN, WORK_CREATE, WORK_RENAME };

typedef struct _WORK {
  ULONG Kind;
  HANDLE Object;     // WORK_WAIT, WORK_QUEUE
  LONG64 Interval;   // WORK_SLEEP: negative, 100 ns
  WCHAR Path[80];    // the file to open, create or rename
  WCHAR Target[80];  // WORK_RENAME: its new name
} WORK;
