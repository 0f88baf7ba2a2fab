// !dpcs: deferred procedures that are queued on each processor, and the one that runs.
#include "app/command.h"
#include "app/lines.h"
#include "base/format.h"
#include "nt/objects/dpc.h"

namespace unhang::app {

namespace {

void add_dpc(Session& session, Node& n, u32 cpu, const char* type, const nt::Dpc& d) {
  Node& line = add_line(n, fmt::format("{:2}: {:<8} : 0x{:016x} 0x{:016x} {}", cpu, type, d.address.value(),
                                       d.routine.value(), session.target().symbolize(d.routine)));
  line["cpu"] = cpu;
  line["type"] = type;
  line["dpc"] = d.address;
  line["routine"] = d.routine;
  line["context"] = d.context;
}

Result<Node> run(Session& session, const std::vector<std::string>&) {
  Node n = lines_node();
  add_line(n, "CPU Type      KDPC               Function");
  for (const nt::Cpu& cpu : session.target().cpus())
    for (const nt::DpcQueue& q : TRY(nt::read_dpcs(session.target(), cpu))) {
      if (q.active) add_dpc(session, n, cpu.number, "Active", *q.active);
      for (const nt::Dpc& d : q.queued)
        add_dpc(session, n, cpu.number, q.threaded ? "Threaded" : "Normal", d);
      if (q.queued.size() != q.depth)
        n["note"] = fmt::format("*** CPU {} counts {} in its queue; {} could be followed", cpu.number,
                                q.depth, q.queued.size());
    }
  if (n.get("lines").size() == 1) add_line(n, "No deferred procedure is queued or runs.");
  return n;
}

}  // namespace

extern const DebuggerCommand dpcs_debugger_command;
const DebuggerCommand dpcs_debugger_command{
    .names = {"!dpcs"}, .usage = "!dpcs", .help = "deferred procedures queued or running", .run = run};

}  // namespace unhang::app
