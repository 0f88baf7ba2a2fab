// What db, dd, dq and dps share: a range of memory, line by line.
#pragma once

#include "app/session.h"
#include "base/node.h"

namespace unhang::app {

// unit: bytes of one item. symbols: one item a line with the symbol it points to. Missing bytes are "??".
Result<Node> show_memory(Session& session, const std::vector<std::string>& args, u64 unit, bool symbols);

}  // namespace unhang::app
