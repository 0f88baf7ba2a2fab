// The layouts that are compiled in: sizes and member offsets of kernel structures for a dozen builds, so that
// member access works with no symbols at all. They hold no symbol addresses.
//
// Their text lies in facts/, a file a structure, a column a build; scripts/make-facts.py writes it from
// public symbol tables, and make-layouts turns it into layouts while unhang is built.
#pragma once

#include <memory>
#include <vector>

#include "symbols/layout.h"

namespace unhang::symbols {

// Oldest build first; build() is a version such as "6.1.7601.24540".
const std::vector<std::shared_ptr<const Layout>>& builtin_layouts();

// Null for a build that is not among them.
std::shared_ptr<const Layout> builtin_layout(std::string_view build);

}  // namespace unhang::symbols
