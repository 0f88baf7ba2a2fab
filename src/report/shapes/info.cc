// info: what the file is, which Windows, what was found how, what is missing.
#include "report/text.h"

namespace unhang::report {

namespace {

void row(Text& out, std::string_view head, const std::string& value) {
  out.line("{:<16}{}", head, value);
}

void print_windows(const Node& target, Text& out) {
  row(out, "Windows",
      fmt::format("build {}{}", scalar_text(target.get("build")),
                  target.get("build_lab").is_null() ? "" : ", " + scalar_text(target.get("build_lab"))));
  row(out, "Kernel base", scalar_text(target.get("kernel_base")));
  if (!target.get("dtb").is_null()) row(out, "Page tables", fmt::format("{:#x}", target.get("dtb").as_u64()));
  if (!target.get("pdb").is_null())
    row(out, "PDB",
        fmt::format("{} {} {}", scalar_text(target.get("pdb").get("name")),
                    scalar_text(target.get("pdb").get("guid")), target.get("pdb").get("age").as_u64()));
  row(out, "Layouts", scalar_text(target.get("layout_source")));
  row(out, "System time", scalar_text(target.get("system_time")));
  row(out, "Uptime", fmt::format("{} s", scalar_text(target.get("uptime_s"))));
  out.blank();
  out.raw(out.bold("Found by"));
  for (const Node& k : target.get("found_by").items())
    if (k.get("what").as_text().size() < 14)
      out.line("  {:<14}{}", k.get("what").as_text(), k.get("how").as_text());
    else
      out.paragraph(fmt::format("  {}: {}", k.get("what").as_text(), k.get("how").as_text()), 118, 16);
}

void print_processors(const Node& n, Text& out) {
  if (n.get("cpus").empty()) return;
  out.blank();
  out.raw(out.bold("Processors"));
  for (const Node& c : n.get("cpus").items()) {
    const std::string registers = c.get("registers_from").is_null()
                                      ? "no registers"
                                      : fmt::format("registers from {}", c.get("registers_from").as_text());
    // Without a Windows nothing but its registers is known of a processor.
    if (c.find("kprcb") == nullptr)
      out.line("  {:<3} {}: rip {}  rsp {}", c.get("number").as_u64(), registers,
               c.get("registers").get("rip").as_address(), c.get("registers").get("rsp").as_address());
    else
      out.line("  {:<3} KPRCB {}  thread {}  {}", c.get("number").as_u64(), c.get("kprcb").as_address(),
               c.get("thread").as_address(), registers);
  }
}

void print(const Node& n, Text& out) {
  const Node& dump = n.get("dump");
  row(out, "File", scalar_text(dump.get("path")));
  row(out, "Format",
      fmt::format("{}: {}", scalar_text(dump.get("format")), scalar_text(dump.get("description"))));
  row(out, "Size", fmt::format("{} bytes", dump.get("size").as_u64()));
  if (!dump.get("physical_memory").is_null())
    row(out, "Guest memory", fmt::format("{} MiB", dump.get("physical_memory").as_u64() >> 20));
  if (!n.get("target").is_null()) print_windows(n.get("target"), out);
  print_processors(n, out);
  if (!n.get("modules").is_null()) {
    out.blank();
    out.line("{} modules, {} of them with symbols or exports that were needed so far",
             n.get("modules").as_u64(), n.get("modules_named").as_u64());
  }
  if (n.get("gaps").empty()) return;
  out.blank();
  out.raw(out.bold("Missing"));
  for (const Node& g : n.get("gaps").items())
    out.line("  {}{}: {}", g.get("what").as_text(),
             g.get("where").is_null() ? "" : fmt::format(" ({})", g.get("where").as_text()),
             g.get("why").as_text());
}

}  // namespace

extern const Shape info_shape;
const Shape info_shape{.name = "info", .print = print};

}  // namespace unhang::report
