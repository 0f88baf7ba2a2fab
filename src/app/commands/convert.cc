// unhang convert: any dump into one that WinDbg opens, running threads' registers included; or into a form
// that other tools read.
#include <CLI/CLI.hpp>
#include <cerrno>
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
                            fmt::format("{} outside of the pages that are written",
                                        counted(w.copied.lost_patches, "piece lies", "pieces lie"))}));
}

// A file that cannot be made where the user wants it is his; what happens to it later is the machine's.
int complain_of_output(const Options& o, const Error& e) {
  complain(fmt::format("{}: {}", o.out, text(e)));
  const bool users = e.why != Why::io || e.os_error == ENOENT || e.os_error == ENOTDIR ||
                     e.os_error == EACCES || e.os_error == EROFS || e.os_error == EISDIR ||
                     e.os_error == ENAMETOOLONG;
  return users ? kUserError : kMachineError;
}

int complain_of_dump(const Options& o, const Error& e) {
  complain(fmt::format("{}: {}", o.common.dump, text(e)));
  return e.why == Why::io ? kMachineError : kUserError;
}

// A crash dump has the registers in Windows' own memory; for the notes of an ELF core the processor's KPCR
// must be where GS points.
std::vector<dump::CpuState> registers_of_windows(const Options& o, Node& gaps) {
  std::vector<dump::CpuState> out;
  const auto target = nt::Target::open(o.common.dump, o.common.target);
  if (!target) {
    gaps.add(gap_node({"CPU registers", "", text(target.error())}));
    return out;
  }
  for (const nt::Cpu& cpu : (*target)->cpus()) {
    if (!cpu.state) continue;
    dump::CpuState s = *cpu.state;
    if (s.user_mode())
      s.kernel_gs_base = cpu.kpcr.value();
    else
      s.gs.base = cpu.kpcr.value();
    if (s.cr3 == 0) s.cr3 = (*target)->place().dtb.value();
    s.has_control = true;
    out.push_back(s);
  }
  return out;
}

// Forms without anything of Windows in them: any guest's dump will do.
int convert_plain(const Options& o) {
  const auto opened =
      dump::open_dump(o.common.dump, {.progress = progress_line(), .spool = o.common.target.dump.spool});
  if (!opened) return complain_of_dump(o, opened.error());
  const dump::DumpFile& d = *opened;
  if (!d.physical)
    return complain_of_dump(
        o, Error{.why = Why::unsupported, .detail = "a triage dump holds no physical memory to convert"});
  Node n = Node::shaped("converted");
  n["output"] = o.out;
  n["gaps"] = gaps_node(d.gaps);
  const auto ranges = dump::whole_pages(d.physical->ranges());
  std::vector<dump::CpuState> cpus = d.cpus;
  if (o.to == "elf" && cpus.empty() && d.header) cpus = registers_of_windows(o, n["gaps"]);
  const auto written = o.to == "elf" ? dump::write_elf_core(o.out, *d.physical, ranges, cpus, progress_line())
                                     : dump::write_raw(o.out, *d.physical, ranges, progress_line());
  if (!written) return complain_of_output(o, written.error());
  add_written(n, *written);
  return output(n, o.common);
}

int convert_to_crash_dump(const Options& o) {
  int status = kDone;
  const auto session = open_session(o.common, status);
  if (!session) return status;
  const nt::Target& t = session->target();
  const auto made = nt::crash_parts(t, o.cpu);
  if (!made) return complain_of_dump(o, made.error());
  const nt::CrashParts& parts = *made;
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
  const auto written = dump::write_crash_dump(o.out, *t.physical(), parts.ranges, parts.header, parts.patches,
                                              type, progress_line());
  if (!written) return complain_of_output(o, written.error());
  add_written(n, *written);
  return output(n, o.common);
}

int run(const Options& o) {
  if (o.out == "-") {
    complain("-o -: a dump is written with gaps and out of order: name a file, not standard output");
    return kUserError;
  }
  // Before a compressed dump is unpacked for nothing; the writers look at the other files of a dump.
  if (std::error_code none; std::filesystem::equivalent(o.common.dump, o.out, none)) {
    complain(fmt::format("{}: this is the dump itself: name another output", o.out));
    return kUserError;
  }
  return o.to == "elf" || o.to == "raw" ? convert_plain(o) : convert_to_crash_dump(o);
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
