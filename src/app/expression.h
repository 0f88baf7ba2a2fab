// Addresses as people type them: fffffa80`0b61bb50, 0x..., 0n10, nt!PsActiveProcessHead+8, poi(...),
// @$thread, @rsp.
#pragma once

#include "app/session.h"
#include "base/error.h"

namespace unhang::app {

// Numbers are hexadecimal unless they begin with 0n. Errors: bad_address (not an expression), no_symbol,
// those of reading for poi() and of registers.
Result<VirtAddr> evaluate(Session& session, std::string_view expression);

}  // namespace unhang::app
