#include "app/table.h"

namespace unhang::app {

Node table_node(std::initializer_list<Column> columns) {
  Node n = Node::shaped("table");
  n["columns"] = Node::list();
  for (const Column& column : columns) {
    Node c = Node::map();
    c["member"] = column.member;
    c["title"] = column.title;
    n["columns"].add(std::move(c));
  }
  n["rows"] = Node::list();
  return n;
}

}  // namespace unhang::app
