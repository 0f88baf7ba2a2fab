#include "base/error.h"

#include <cstring>

#include "base/format.h"

namespace unhang {

std::string_view name(Why why) {
  switch (why) {
    case Why::not_in_dump:
      return "not_in_dump";
    case Why::not_present:
      return "not_present";
    case Why::paged_out:
      return "paged_out";
    case Why::bad_address:
      return "bad_address";
    case Why::no_symbol:
      return "no_symbol";
    case Why::no_member:
      return "no_member";
    case Why::layout_mismatch:
      return "layout_mismatch";
    case Why::implausible:
      return "implausible";
    case Why::cycle:
      return "cycle";
    case Why::limit:
      return "limit";
    case Why::bad_file:
      return "bad_file";
    case Why::io:
      return "io";
    case Why::unsupported:
      return "unsupported";
  }
  return "unknown";
}

namespace {

std::string_view level_name(u8 level) {
  static constexpr std::string_view kNames[] = {"", "PTE", "PDE", "PDPTE", "PML4E", "PML5E"};
  return level < std::size(kNames) ? kNames[level] : "";
}

std::string subject(const Error& e) {
  std::string s;
  if (e.type != nullptr) s = e.type;
  if (e.member != nullptr) s += (s.empty() ? "" : ".") + std::string(e.member);
  return s;
}

// "of" what the sentence speaks: the member and the address, as far as they are known.
std::string place(const Error& e) {
  std::string s = subject(e);
  if (!e.va.is_null()) s += fmt::format("{}{}", s.empty() ? "" : " at ", e.va);
  if (!e.pa.is_null()) s += fmt::format("{}physical {:#x}", s.empty() ? "" : ", ", e.pa.value());
  return s.empty() ? "address 0" : s;
}

}  // namespace

std::string text(const Error& e) {
  const std::string detail = e.detail == nullptr ? "" : fmt::format(": {}", e.detail);
  switch (e.why) {
    case Why::not_in_dump:
      return fmt::format("{} is not in the dump{}", place(e), detail);
    case Why::not_present:
      return e.level == 0 ? fmt::format("{} is not present{}", place(e), detail)
                          : fmt::format("{} is not present ({}){}", place(e), level_name(e.level), detail);
    case Why::paged_out:
      return fmt::format("{} is paged out{}", place(e), detail);
    case Why::bad_address:
      return fmt::format("{} is not a possible address{}", place(e), detail);
    case Why::no_symbol:
      return fmt::format("no symbol{}{}", subject(e).empty() ? "" : " " + subject(e), detail);
    case Why::no_member:
      return fmt::format("{} is unknown in this target{}", subject(e).empty() ? "a member" : subject(e),
                         detail);
    case Why::layout_mismatch:
      return fmt::format("{} has another size than expected{}", subject(e), detail);
    case Why::implausible:
      return fmt::format("{} is implausible{}", place(e), detail);
    case Why::cycle:
      return fmt::format("{}: the list runs in a circle{}", place(e), detail);
    case Why::limit:
      return fmt::format("{}: limit reached{}", place(e), detail);
    case Why::bad_file:
    case Why::unsupported: {
      std::string s = subject(e);
      if (e.offset != 0) s += fmt::format("{}at offset {:#x}", s.empty() ? "" : " ", e.offset);
      const char* fallback = e.why == Why::unsupported ? "not supported" : "damaged or not what it claims";
      const std::string d = e.detail == nullptr ? fallback : e.detail;
      return s.empty() ? d : fmt::format("{}: {}", s, d);
    }
    case Why::io: {
      const std::string os = e.os_error == 0 ? "" : fmt::format(": {}", std::strerror(e.os_error));
      return fmt::format("{}{}", e.detail == nullptr ? "input/output error" : e.detail, os);
    }
  }
  return "unknown error";
}

}  // namespace unhang
