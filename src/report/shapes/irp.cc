// !irp, as WinDbg prints it.
#include "report/shapes/shape.h"
#include "report/text.h"

namespace unhang::report {

namespace {

std::string control_words(u64 control) {
  std::string s;
  if ((control & 0x40) != 0) s += "Success ";
  if ((control & 0x80) != 0) s += "Error ";
  if ((control & 0x20) != 0) s += "Cancel ";
  if ((control & 0x01) != 0) s += "pending";
  return s;
}

void print_location(const Node& l, Text& out) {
  const std::string mark = l.get("current").as_bool() ? ">" : " ";
  const std::string minor =
      l.get("minor").as_text().empty()
          ? fmt::format("N/A({:x})", l.get("minor_code").as_u64())
          : fmt::format("{}({:x})", l.get("minor").as_text(), l.get("minor_code").as_u64());
  if (!l.get("used").as_bool()) {
    out.line("{}[N/A(0), N/A(0)]", mark);
    out.raw("            0  0 00000000 00000000 00000000-00000000");
    out.blank();
    return;
  }
  out.line("{}[{}({:x}), {}]", mark, l.get("major").as_text(), l.get("major_code").as_u64(), minor);
  out.line("            {:2x} {:2x} {:016x} {:016x} {:016x}-{:016x} {}", l.get("flags").as_u64(),
           l.get("control").as_u64(), l.get("device").as_u64(), l.get("file").as_u64(),
           l.get("completion").as_u64(), l.get("context").as_u64(), control_words(l.get("control").as_u64()));
  // The completion routine in a location belongs to the driver above it.
  const std::string_view driver = l.get("driver").as_text(),
                         completion = l.get("completion_symbol").as_text();
  if (!driver.empty() || !completion.empty()) out.line("           {}  {}", driver, completion);
  std::string args = "            Args:";
  for (const Node& a : l.get("args").items()) args += fmt::format(" {:08x}", a.as_u64());
  out.raw(args);
}

void print(const Node& n, Text& out) {
  const u64 count = n.get("stack_count").as_u64(), current = n.get("current_location").as_u64();
  if (current > count)
    out.line("Irp is not sent or completed: {} stacks, current location is {}", count, current);
  else
    out.line("Irp is active with {} stacks {} is current{}", count, current,
             n.get("consistent").as_bool()
                 ? fmt::format(" (= {:#x})", n.get("current_location_address").as_u64())
                 : " (its pointer to the current location disagrees)");
  const auto part = [&](const char* key, const char* word) {
    const u64 v = n.get(key).as_u64();
    return v == 0 ? fmt::format("No {}", word) : fmt::format("{}={:016x}", word, v);
  };
  out.line(" {}: {}: Thread {:016x}:  Irp stack trace.{}", part("mdl", "Mdl"),
           part("system_buffer", "System Buffer"), n.get("thread").as_u64(),
           n.get("cancel").as_bool() ? "  Pending has been cancelled." : "");
  out.raw("     cmd  flg cl Device   File     Completion-Context");
  for (const Node& l : n.get("stack").items()) print_location(l, out);
  if (const Node* file = n.find("file_name"); file != nullptr && !file->as_text().empty())
    out.line(" File: {}", file->as_text());
  print_gaps(n.get("gaps"), out);
}

}  // namespace

extern const Shape irp_shape;
const Shape irp_shape{.name = "irp", .print = print};

}  // namespace unhang::report
