// !process, as WinDbg prints it.
#include "report/shapes/shape.h"
#include "report/text.h"

namespace unhang::report {

namespace {

std::string time(u64 ms) {
  const u64 s = ms / 1000;
  return fmt::format("{:02}:{:02}:{:02}.{:03}", s / 3600, s / 60 % 60, s % 60, ms % 1000);
}

void print(const Node& n, Text& out) {
  if (const Node* e = n.find("error")) {
    out.line("PROCESS {:016x}  {}", n.get("address").as_u64(), e->as_text());
    return;
  }
  const std::string session =
      n.get("session").is_null() ? "none" : fmt::format("{}", n.get("session").as_u64());
  out.line("PROCESS {:016x}", n.get("address").as_u64());
  out.line("    SessionId: {}  Cid: {:04x}    Peb: {:08x}  ParentCid: {:04x}", session, n.get("pid").as_u64(),
           n.get("peb").as_u64(), n.get("parent_pid").as_u64());
  out.line("    DirBase: {:08x}  ObjectTable: {:016x}  HandleCount: {}.", n.get("dtb").as_u64(),
           n.get("object_table").as_u64(), n.get("handles").as_u64());
  out.line("    Image: {}", n.get("name").as_text());
  if (n.get("details").as_bool()) {
    out.line("    Token                             {:016x}", n.get("token").as_u64());
    out.line("    CreateTime                        {}", n.get("create_time").as_text("-"));
    out.line("    UserTime                          {}", time(n.get("user_time_ms").as_u64()));
    out.line("    KernelTime                        {}", time(n.get("kernel_time_ms").as_u64()));
    out.line("    BasePriority                      {}", n.get("base_priority").as_i64());
    out.line("    CommitCharge                      {}", n.get("commit_pages").as_u64());
    if (!n.get("path").is_null())
      out.line("    Path                              {}", n.get("path").as_text());
    if (!n.get("command_line").is_null())
      out.line("    CommandLine                       {}", n.get("command_line").as_text());
  }
  print_gaps(n.get("gaps"), out);
  out.blank();
  out.indent(4);
  for (const Node& t : n.get("thread_list").items()) {
    out.print(t);
    out.blank();
  }
  out.indent(-4);
}

}  // namespace

extern const Shape process_shape;
const Shape process_shape{.name = "process", .print = print};

}  // namespace unhang::report
