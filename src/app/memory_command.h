// What the d commands share: a range of memory, line by line.
#pragma once

#include "app/session.h"
#include "base/node.h"

namespace unhang::app {

// What stands beside the values: their characters, or the symbols that they point to (one item a line then).
enum class Beside { nothing, characters, symbols };

// unit: bytes of one item. Missing bytes are "??".
Result<Node> show_memory(Session& session, const std::vector<std::string>& args, u64 unit, Beside beside);

// Text up to its NUL, of 8-bit or 16-bit characters. Errors: those of reading the first one.
Result<Node> show_text(Session& session, const std::vector<std::string>& args, u64 unit);

}  // namespace unhang::app
