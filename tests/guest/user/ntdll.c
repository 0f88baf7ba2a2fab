// Where user threads begin, and what the compiler calls.
#include "../inc/base.h"

NORETURN __declspec(dllexport) void RtlUserThreadStart(void (*start)(PVOID), PVOID argument) {
  start(argument);
  for (;;) __asm__ volatile("pause");
}

__declspec(dllexport) void* memset(void* to, int value, ULONG64 size) {
  void* at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
  return to;
}
