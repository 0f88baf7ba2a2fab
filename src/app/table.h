// Tables: the shape that lists print with, and JSON consumers get as rows.
#pragma once

#include "base/node.h"

namespace unhang::app {

struct Column {
  const char* member;  // of each row
  const char* title;
};

// An empty table with these columns: add maps to ["rows"].
Node table_node(std::initializer_list<Column> columns);

}  // namespace unhang::app
