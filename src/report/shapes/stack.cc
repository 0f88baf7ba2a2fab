// k: a stack by itself.
#include "report/shapes/shape.h"
#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  print_stack(n.get("stack"), out, true);
  print_stack_end(n, out);
}

}  // namespace

extern const Shape stack_shape;
const Shape stack_shape{.name = "stack", .print = print};

}  // namespace unhang::report
