// Threads and processes as people name them: by address, or by the number that `Cid` shows.
#pragma once

#include "app/session.h"
#include "base/error.h"

namespace unhang::app {

// word: an expression; what is no kernel address is a PID. Errors: evaluate's, and no such process.
Result<VirtAddr> process_of(Session& session, std::string_view word);
// The same for threads and their TIDs.
Result<VirtAddr> thread_of(Session& session, std::string_view word);

}  // namespace unhang::app
