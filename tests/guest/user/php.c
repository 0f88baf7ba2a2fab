// php-cgi.exe: a request that starts a session, and the thread beside it that waits for a signal.
#include "user.h"

static void session_file_open(WCHAR* path) {
  HANDLE file;
  open_file(path, FILE_CREATE, &file);
}

static void session_start(WORK* work) {
  session_file_open(work->Path);
}

static void execute_request(WORK* work) {
  session_start(work);
}

static void signal_thread(WORK* work) {
  NtWaitForSingleObject(work->Object, FALSE, NULL);
}

void thread_main(WORK* work) {
  for (;;)
    if (work->Kind == WORK_CREATE)
      execute_request(work);
    else
      signal_thread(work);
}
