#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  out.line("Driver object ({:016x}) is for:", n.get("address").as_u64());
  out.line(" {}", n.get("name").as_text());
  out.line("DriverStart {:016x} Size {:x}", n.get("start").as_u64(), n.get("size").as_u64());
  out.raw("Device Object list:");
  std::string line;
  for (const Node& d : n.get("devices").items()) {
    line += fmt::format("{:016x}  ", d.as_u64());
    if (line.size() > 60) {
      out.raw(line);
      line.clear();
    }
  }
  if (!line.empty()) out.raw(line);
  if (const Node* end = n.find("devices_end")) out.line("*** the list is not whole: {}", end->as_text());
  out.blank();
  if (!n.get("start_io").as_text().empty()) out.line("DriverStartIo:  {}", n.get("start_io").as_text());
  if (!n.get("unload").as_text().empty()) out.line("DriverUnload:   {}", n.get("unload").as_text());
  out.raw("Dispatch routines:");
  size_t i = 0;
  for (const Node& f : n.get("major_functions").items())
    out.line("[{:02x}] {:<36} {:016x} {}", i++, f.get("major").as_text(), f.get("address").as_u64(),
             f.get("symbol").as_text());
}

}  // namespace

extern const Shape driver_shape;
const Shape driver_shape{.name = "driver", .print = print};

}  // namespace unhang::report
