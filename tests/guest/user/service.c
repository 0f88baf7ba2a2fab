// Every program but PHP: it does the one thing that its argument names.
#include "user.h"

static void wait_for_request(WORK* work) {
  PVOID key, context;
  IO_STATUS_BLOCK status;
  NtRemoveIoCompletion(work->Object, &key, &context, &status, NULL);
}

static void wait_for_event(WORK* work) {
  NtWaitForSingleObject(work->Object, FALSE, NULL);
}

static void sleep(WORK* work) {
  LARGE_INTEGER interval = {.QuadPart = work->Interval};
  NtDelayExecution(FALSE, &interval);
}

static void load_user_profile(WORK* work) {
  HANDLE file;
  open_file(work->Path, FILE_OPEN, &file);
}

static void write_file(WORK* work) {
  HANDLE file;
  open_file(work->Path, FILE_CREATE, &file);
}

static void move_file(WORK* work) {
  HANDLE file;
  IO_STATUS_BLOCK status;
  FILE_RENAME_INFORMATION rename = {0, NULL, 0, {0}};
  while (work->Target[rename.FileNameLength / 2]) {
    rename.FileName[rename.FileNameLength / 2] = work->Target[rename.FileNameLength / 2];
    rename.FileNameLength += 2;
  }
  if (NT_SUCCESS(open_file(work->Path, FILE_OPEN, &file)))
    NtSetInformationFile(file, &status, &rename, sizeof rename, FileRenameInformation);
}

void thread_main(WORK* work) {
  for (;;) switch (work->Kind) {
      case WORK_QUEUE:
        wait_for_request(work);
        break;
      case WORK_WAIT:
        wait_for_event(work);
        break;
      case WORK_SLEEP:
        sleep(work);
        break;
      case WORK_OPEN:
        load_user_profile(work);
        break;
      case WORK_CREATE:
        write_file(work);
        break;
      case WORK_RENAME:
        move_file(work);
        break;
    }
}
