// What can go wrong while a dump is taken is said by others (QEMU, libvirt) in sentences of their own: a
// Failure carries one, where an Error has static text only.
#pragma once

#include <expected>
#include <string>

#include "base/error.h"  // TRY

namespace unhang::app::capture {

struct Failure {
  std::string sentence;      // without a full stop
  bool machine = false;      // exit status 3 instead of 2
  bool not_offered = false;  // the host has no such format: another one may do
  bool gone = false;         // the guest is no more
};

template <class T>
using Outcome = std::expected<T, Failure>;

// The user can do something about it: a name, a permission, space.
inline std::unexpected<Failure> mistake(std::string sentence) {
  return std::unexpected(Failure{.sentence = std::move(sentence)});
}
inline std::unexpected<Failure> trouble(std::string sentence) {
  return std::unexpected(Failure{.sentence = std::move(sentence), .machine = true});
}
// The guest has ended, or QEMU has.
inline std::unexpected<Failure> gone(std::string sentence, bool machine) {
  return std::unexpected(Failure{.sentence = std::move(sentence), .machine = machine, .gone = true});
}

}  // namespace unhang::app::capture
