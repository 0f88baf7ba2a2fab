// Output that is lines already: memory dumps, types, symbols. Each line has its data beside its text.
#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  for (const Node& l : n.get("lines").items()) out.raw(l.get("text").as_text());
  if (const Node* note = n.find("note")) out.raw(note->as_text());
}

}  // namespace

extern const Shape lines_shape;
const Shape lines_shape{.name = "lines", .print = print};

}  // namespace unhang::report
