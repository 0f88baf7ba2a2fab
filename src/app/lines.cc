#include "app/lines.h"

namespace unhang::app {

Node lines_node() {
  Node n = Node::shaped("lines");
  n["lines"] = Node::list();
  return n;
}

Node& add_line(Node& lines, std::string text) {
  Node line = Node::map();
  line["text"] = std::move(text);
  return lines["lines"].add(std::move(line));
}

}  // namespace unhang::app
