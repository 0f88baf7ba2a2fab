// Pages that are being read: MMINPAGE_SUPPORT, in which the event lies that page faults wait for.
// Facts: public PDBs of Windows 8.1 and later (_MMINPAGE_SUPPORT; Windows 7's lack it). That Thread is the
// one that sends the read is what its name says, and nothing public says more.
#pragma once

#include "nt/object.h"

namespace unhang::nt {

struct MMINPAGE_SUPPORT {
  static constexpr TypeName kType{"_MMINPAGE_SUPPORT"};
  static inline const Member<Inside> Event{kType, "Event"};
  static inline const Member<Inside> CollidedEvent{kType, "CollidedEvent"};
  static inline const Member<VirtAddr> Thread{kType, "Thread"};
  static inline const Member<VirtAddr> FilePointer{kType, "FilePointer"};
};

struct InPage {
  VirtAddr address{};
  VirtAddr event{};   // that the request signals: the Event of the structure
  VirtAddr thread{};  // that reads
  VirtAddr file{};    // that the page is read from; null when what stands there is no file object
};

// By the event that a thread waits for. Errors: no_member; implausible (no thread is named where it should
// be).
Result<InPage> read_in_page(const Target& target, VirtAddr event);

}  // namespace unhang::nt
