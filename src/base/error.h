// Errors are values. An Error is small, trivially copyable and says which thing happened where; the one
// sentence that a reader sees is made in one place, text().
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "base/types.h"

namespace unhang {

// What happened. The list is closed: a new situation is one of these or a reason to change DESIGN.
enum class Why : u8 {
  not_in_dump,      // the address is real, the dump does not hold the page
  not_present,      // a paging entry is not valid (level says which)
  paged_out,        // the page is in a page file or has never been touched
  bad_address,      // not an address that this machine can have
  no_symbol,        // a symbol that is needed is unknown
  no_member,        // a type or a member is unknown in this target
  layout_mismatch,  // a member has another size than its reader expects
  implausible,      // the value cannot be true (a check failed)
  cycle,            // a list came back to where it had been
  limit,            // a bound that protects us was reached
  bad_file,         // the file lies about itself or is truncated
  io,               // the host could not read or write
  unsupported,      // understood, but not handled
};

std::string_view name(Why why);

struct Error {
  Why why = Why::bad_file;
  u8 level = 0;                  // paging level, 1 (PTE) to 5 (PML5E); 0: does not apply
  VirtAddr va{};                 // 0: does not apply
  PhysAddr pa{};                 // 0: does not apply
  u64 offset = 0;                // offset in the file, for bad_file and io; 0: does not apply
  const char* type = nullptr;    // Windows type, or file format
  const char* member = nullptr;  // its member, or the structure in the file
  const char* detail = nullptr;  // static text: the rest of the sentence
  int os_error = 0;              // errno for io

  Error&& with_type(const char* t) && {
    if (type == nullptr) type = t;
    return std::move(*this);
  }
};
static_assert(std::is_trivially_copyable_v<Error>);

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Error e) {
  return std::unexpected<Error>(e);
}
inline std::unexpected<Error> fail(Why why, const char* detail) {
  return std::unexpected<Error>(Error{.why = why, .detail = detail});
}

// One sentence without a full stop, for people: "fffff800`02a4c000 is not present (PTE)".
std::string text(const Error& error);

// A place where something was not had: what was looked for, where, and why not. Results carry these.
struct Gap {
  std::string what;   // "process list", "stack of thread 0x..."
  std::string where;  // an address or an offset, rendered; may be empty
  std::string why;    // text(Error)
  // Nothing that a verdict rests on: a command line that is paged out, symbols that cannot be read.
  bool minor = false;
};

}  // namespace unhang

// TRY(expression): the value, or return the error from the enclosing function. GCC's statement expression;
// std::expected of libstdc++ 12 lacks and_then and friends.
#define TRY(...) UNHANG_TRY_NAMED(UNHANG_JOIN(try_result_, __COUNTER__), __VA_ARGS__)
#define UNHANG_JOIN(a, b) UNHANG_JOIN_(a, b)
#define UNHANG_JOIN_(a, b) a##b
#define UNHANG_TRY_NAMED(name, ...)                  \
  __extension__({                                    \
    auto name = (__VA_ARGS__);                       \
    if (!name) return std::unexpected(name.error()); \
    std::move(name).value();                         \
  })

// The same for Result<void>.
#define TRY_VOID(...)                                                                                \
  do {                                                                                               \
    if (auto try_result_ = (__VA_ARGS__); !try_result_) return std::unexpected(try_result_.error()); \
  } while (false)
