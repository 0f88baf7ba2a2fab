// info: what the file is, which Windows, what was found how, what is missing.
#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  const Node &dump = n.get("dump"), &target = n.get("target");
  const auto row = [&](std::string_view head, const std::string& value) {
    out.line("{:<16}{}", head, value);
  };
  const auto text = [](const Node& v) { return scalar_text(v); };
  row("File", text(dump.get("path")));
  row("Format", fmt::format("{}: {}", text(dump.get("format")), text(dump.get("description"))));
  row("Size", fmt::format("{} bytes", dump.get("size").as_u64()));
  if (!dump.get("physical_memory").is_null())
    row("Guest memory", fmt::format("{} MiB", dump.get("physical_memory").as_u64() >> 20));
  row("Windows", fmt::format("build {}{}", text(target.get("build")),
                             target.get("build_lab").is_null() ? "" : ", " + text(target.get("build_lab"))));
  row("Kernel base", text(target.get("kernel_base")));
  if (!target.get("dtb").is_null()) row("Page tables", fmt::format("{:#x}", target.get("dtb").as_u64()));
  if (!target.get("pdb").is_null())
    row("PDB", fmt::format("{} {} {}", text(target.get("pdb").get("name")),
                           text(target.get("pdb").get("guid")), target.get("pdb").get("age").as_u64()));
  row("Layouts", text(target.get("layout_source")));
  row("System time", text(target.get("system_time")));
  row("Uptime", fmt::format("{} s", text(target.get("uptime_s"))));
  out.blank();
  out.raw(out.bold("Found by"));
  for (const Node& k : target.get("found_by").items())
    out.line("  {:<14}{}", k.get("what").as_text(), k.get("how").as_text());
  out.blank();
  out.raw(out.bold("Processors"));
  for (const Node& c : n.get("cpus").items())
    out.line("  {:<3} KPRCB {}  thread {}  {}", c.get("number").as_u64(), c.get("kprcb").as_address(),
             c.get("thread").as_address(),
             c.get("registers_from").is_null()
                 ? "no registers"
                 : fmt::format("registers from {}", c.get("registers_from").as_text()));
  out.blank();
  out.line("{} modules, {} of them with symbols or exports that were needed so far",
           n.get("modules").as_u64(), n.get("modules_named").as_u64());
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
