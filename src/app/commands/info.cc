// unhang info: what the file is and what is known of the Windows in it.
#include <CLI/CLI.hpp>
#include <memory>

#include "app/command.h"
#include "app/registers.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

// What can be said of a file in which no Windows is found: its form, its memory, its processors.
Node file_node(const dump::DumpFile& dump) {
  Node n = Node::shaped("info");
  n["dump"] = dump_node(dump);
  n["target"] = Node();
  n["cpus"] = Node::list();
  for (size_t i = 0; i < dump.cpus.size(); i++) {
    Node cpu = Node::map();
    cpu["number"] = u64{i};
    cpu["registers_from"] = fmt::format("CPU {} of the dump", i);
    cpu["registers"] = registers_node(dump.cpus[i]);
    n["cpus"].add(std::move(cpu));
  }
  n["gaps"] = gaps_node(dump.gaps);
  return n;
}

int run(const CommonOptions& o) {
  int status = kDone;
  auto dump = open_dump(o, status);
  if (!dump) return status;
  const Node file = file_node(*dump);
  const auto session = open_session(std::move(*dump), o, status);
  if (!session) {
    const int printed = output(file, o);
    return printed == kDone ? status : printed;
  }
  const nt::Target& t = session->target();
  Node n = Node::shaped("info");
  n["dump"] = dump_node(t);
  n["target"] = target_node(t);
  n["cpus"] = Node::list();
  for (const nt::Cpu& c : t.cpus()) {
    Node cpu = Node::map();
    cpu["number"] = c.number;
    cpu["kpcr"] = c.kpcr;
    cpu["kprcb"] = c.kprcb;
    cpu["thread"] = c.current_thread;
    cpu["registers_from"] = c.state_from.empty() ? Node() : Node(c.state_from);
    cpu["registers"] = c.state ? registers_node(*c.state) : Node();
    n["cpus"].add(std::move(cpu));
  }
  n["modules"] = u64{t.modules().all().size()};
  u64 named = 0;
  for (const auto& m : t.modules().all())
    if (m->symbols() != nullptr || m->image() != nullptr) named++;
  n["modules_named"] = named;
  n["gaps"] = gaps_node(t.gaps());
  return output(n, o);
}

void set_up(CLI::App& app, int& status) {
  auto o = std::make_shared<CommonOptions>();
  add_common_options(app, *o);
  app.callback([o, &status] { status = run(*o); });
}

}  // namespace

extern const Command info_command;
const Command info_command{
    .name = "info",
    .help = "say what the file is, which Windows is in it, what is known and what is missing",
    .order = 2,
    .set_up = set_up};

}  // namespace unhang::app
