// The facts that are compiled in: sizes and member offsets of kernel structures for a dozen builds, so that
// member access works with no symbols at all. They hold no symbol addresses.
//
// The text lies in facts/, a file a structure, a column a build; scripts/make-facts.py writes it from public
// symbol tables.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "symbols/layout.h"

namespace unhang::symbols {

// Versions such as "6.1.7601.24540", oldest first.
std::vector<std::string> builtin_builds();

// The layout of one build, made on first use and kept for the life of the process. Null for an unknown build.
std::shared_ptr<const Layout> builtin_layout(std::string_view build);

}  // namespace unhang::symbols
