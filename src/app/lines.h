// Output that is lines already: the shape that debugger commands print with.
#pragma once

#include <string>

#include "base/node.h"

namespace unhang::app {

Node lines_node();
// Adds a line and returns it, for the data that belong to it.
Node& add_line(Node& lines, std::string text);

}  // namespace unhang::app
