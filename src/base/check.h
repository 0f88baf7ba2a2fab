// An assertion that stays on in release builds: for our own broken invariants only, never for what a dump
// or a user says. It ends the process, because going on with a broken invariant gives wrong answers.
#pragma once

#include <cstdio>
#include <cstdlib>

#define UNHANG_CHECK(condition)                                                                      \
  do {                                                                                               \
    if (!(condition)) [[unlikely]] {                                                                 \
      std::fprintf(stderr, "unhang: internal error at %s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                                  \
    }                                                                                                \
  } while (false)
