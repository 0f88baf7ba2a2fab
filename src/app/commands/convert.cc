// unhang convert: any dump into one that WinDbg opens, running threads' registers included; or into a form
// that other tools read.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "app/command.h"
#include "app/progress_line.h"
#include "app/views/view.h"
#include "base/format.h"
#include "nt/crash_parts.h"

namespace unhang::app {

namespace {

struct Options {
  CommonOptions common;
  std::string out;
  std::string to = "dmp";
  std::optional<u32> cpu;
};

void add_written(Node& n, const dump::Written& w) {
  n["written"] = w.what;
  n["file_size"] = w.file_size;
  n["pages"] = w.pages;
  if (w.copied.unreadable_pages != 0)
    n["gaps"].add(gap_node({"guest memory", hex(w.copied.first_unreadable),
                            fmt::format("{} cannot be read and {} zeros in the output",
                                        counted(w.copied.unreadable_pages, "page", "pages"),
                                        w.copied.unreadable_pages == 1 ? "is" : "are")}));
  if (w.copied.lost_patches != 0)
    n["gaps"].add(gap_node({"state of the processors", "",
                            fmt::format("{} lies outside of the pages that are written",
                                        counted(w.copied.lost_patches, "piece", "pieces"))}));
}

// Forms without anything of Windows in them: any guest's dump will do.
Result<Node> convert_plain(const Options& o) {
  dump::DumpFile d =
      TRY(dump::open_dump(o.common.dump, {.progress = progress_line(), .spool = o.common.target.dump.spool}));
  if (!d.physical)
    return fail(
        Error{.why = Why::unsupported, .detail = "a triage dump holds no physical memory to convert"});
  Node n = Node::shaped("converted");
  n["output"] = o.out;
  n["gaps"] = gaps_node(d.gaps);
  const auto ranges = dump::whole_pages(d.physical->ranges());
  add_written(n, TRY(o.to == "elf" ? dump::write_elf_core(o.out, *d.physical, ranges, d.cpus, progress_line())
                                   : dump::write_raw(o.out, *d.physical, ranges, progress_line())));
  return n;
}

Result<Node> convert_to_crash_dump(const Session& session, const Options& o) {
  const nt::Target& t = session.target();
  nt::CrashParts parts = TRY(nt::crash_parts(t, o.cpu));
  Node n = Node::shaped("converted");
  n["output"] = o.out;
  n["build"] = t.build();
  n["processors"] = parts.header.processors;
  n["contexts"] = parts.contexts;
  n["xmm"] = parts.xmm;
  n["cpu"] = parts.chosen_cpu ? Node(*parts.chosen_cpu) : Node();
  n["left_out"] = parts.left_out;
  n["gaps"] = gaps_node(parts.gaps);
  const auto type = o.to == "bitmap"     ? dump::CrashType::bitmap
                    : o.to == "complete" ? dump::CrashType::complete
                                         : dump::CrashType::automatic;
  add_written(n, TRY(dump::write_crash_dump(o.out, *t.physical(), parts.ranges, parts.header, parts.patches,
                                            type, progress_line())));
  return n;
}

int run(const Options& o) {
  int status = kDone;
  // Before a compressed dump is unpacked for nothing; the writers look at the other files of a dump.
  if (std::error_code none; std::filesystem::equivalent(o.common.dump, o.out, none)) {
    complain(fmt::format("{}: this is the dump itself: name another output", o.out));
    return kUserError;
  }
  if (o.to == "elf" || o.to == "raw") {
    const auto n = convert_plain(o);
    if (n) return output(*n, o.common);
    complain(fmt::format("{}: {}", o.common.dump, text(n.error())));
    return n.error().why == Why::io ? kMachineError : kUserError;
  }
  const auto session = open_session(o.common, status);
  if (!session) return status;
  const auto n = convert_to_crash_dump(*session, o);
  if (n) return output(*n, o.common);
  complain(fmt::format("{}: {}", o.out, text(n.error())));
  return n.error().why == Why::io ? kMachineError : kUserError;
}

void set_up(CLI::App& app, int& status) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("-o,--output", o->out, "the file to write")->required();
  app.add_option("--to", o->to, "dmp (complete or bitmap, as the memory needs), complete, bitmap, elf, raw")
      ->check(CLI::IsMember({"dmp", "complete", "bitmap", "elf", "raw"}))
      ->capture_default_str();
  app.add_option("--cpu", o->cpu,
                 "the processor that the debugger shall stand on; else the first that is not idle");
  app.callback([o, &status] { status = run(*o); });
}

}  // namespace

extern const Command convert_command;
const Command convert_command{
    .name = "convert",
    .help = "write a crash dump that WinDbg opens, running threads' stacks included",
    .order = 4,
    .set_up = set_up};

}  // namespace unhang::app
