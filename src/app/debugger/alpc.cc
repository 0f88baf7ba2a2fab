// !alpc /m MESSAGE | /p PORT | /lpp PROCESS: who waits for whom in an ALPC request.
#include "nt/objects/alpc.h"

#include <algorithm>

#include "app/cid.h"
#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "base/format.h"

namespace unhang::app {

namespace {

std::string process(const waits::World& w, VirtAddr va) {
  for (const waits::ProcessNode& p : w.processes)
    if (p.process.address == va) return fmt::format("{:016x} ({})", va.value(), p.process.name);
  return fmt::format("{:016x}", va.value());
}

std::string port_text(Session& session, VirtAddr va) {
  if (!is_kernel(va)) return fmt::format("{:016x}", va.value());
  const auto p = nt::read_alpc_port(session.target(), va);
  return fmt::format("{:016x} [{}]{}", va.value(), p ? nt::port_kind(*p) : "?",
                     session.objects().path(va).empty() ? "" : " " + session.objects().path(va));
}

Result<Node> message(Session& session, VirtAddr va) {
  const nt::AlpcMessage m = TRY(nt::read_alpc_message(session.target(), va));
  const waits::World& w = session.world();
  Node n = lines_node();
  const auto add = [&](std::string s) { add_line(n, std::move(s)); };
  add(fmt::format("Message {:016x}", va.value()));
  add(fmt::format("  MessageID             : 0x{:04X} ({})", m.id, m.id));
  add(fmt::format("  SequenceNumber        : 0x{:08X} ({})", static_cast<u32>(m.sequence), m.sequence));
  add(fmt::format("  OwnerPort             : {}", port_text(session, m.owner_port)));
  add(fmt::format("  WaitingThread         : {:016x}  {}", m.waiting_thread.value(),
                  is_kernel(m.waiting_thread) ? w.who(m.waiting_thread) : ""));
  add(fmt::format("  QueuePort             : {}", port_text(session, m.queue_port)));
  const auto port = nt::read_alpc_port(session.target(), m.queue_port);
  add(fmt::format("  QueuePortOwnerProcess : {}", port ? process(w, port->owner_process) : "?"));
  add(fmt::format("  ConnectionPort        : {}", port_text(session, m.connection_port)));
  add(fmt::format("  ServerThread          : {:016x}  {}", m.server_thread.value(),
                  m.taken() ? w.who(m.server_thread) : "nobody has taken it"));
  n["message"] = va;
  n["waiting_thread"] = m.waiting_thread;
  n["server_thread"] = m.server_thread;
  n["queue_port"] = m.queue_port;
  return n;
}

Result<Node> port(Session& session, VirtAddr va) {
  const nt::AlpcPort p = TRY(nt::read_alpc_port(session.target(), va));
  const waits::World& w = session.world();
  Node n = lines_node();
  const auto add = [&](std::string s) { add_line(n, std::move(s)); };
  add(fmt::format("Port {}", port_text(session, va)));
  add(fmt::format("  OwnerProcess             : {}", process(w, p.owner_process)));
  add(fmt::format("  ConnectionPort           : {}", port_text(session, p.connection_port)));
  add(fmt::format("  ServerCommunicationPort  : {:016x}", p.server_port.value()));
  add(fmt::format("  ClientCommunicationPort  : {:016x}", p.client_port.value()));
  const auto queue = [&](const char* name, const std::vector<VirtAddr>& messages, const nt::Walk& walk) {
    add("");
    add(fmt::format("  {} has {}{}", name, counted(messages.size(), "message", "messages"),
                    walk.complete() ? "" : fmt::format(" ({})", walk.how())));
    for (const VirtAddr m : messages) {
      const auto read = nt::read_alpc_message(session.target(), m);
      if (!read) continue;
      add(fmt::format("    {:016x} {:08x} {:016x} {:016x} {}", m.value(), read->id,
                      read->server_thread.value(), read->waiting_thread.value(),
                      is_kernel(read->waiting_thread) ? w.who(read->waiting_thread) : ""));
    }
  };
  queue("Main queue", p.main, p.main_walk);
  queue("Pending queue", p.pending, p.pending_walk);
  n["port"] = va;
  n["owner_process"] = p.owner_process;
  return n;
}

// The ports that a process has handles to: its own, and those of its connections.
Result<Node> ports_of(Session& session, VirtAddr which) {
  const waits::World& w = session.world();
  const auto p = std::find_if(w.processes.begin(), w.processes.end(),
                              [&](const waits::ProcessNode& x) { return x.process.address == which; });
  if (p == w.processes.end()) return fail(Why::unsupported, "no such process in the dump");
  Node n = lines_node();
  std::vector<std::pair<nt::AlpcPort, std::string>> own, connected;
  for (const nt::Handle& h : p->handles) {
    const auto info = session.objects().info(h.object);
    if (!info || info->type != "ALPC Port") continue;
    const auto read = nt::read_alpc_port(session.target(), h.object);
    if (!read) continue;
    const std::string name = session.objects().path(read->connection_port);
    (read->connection_port == h.object ? own : connected).push_back({*read, name});
  }
  const auto list = [&](const std::string& title, const auto& ports) {
    add_line(n, title);
    for (const auto& [port, name] : ports) {
      Node& line =
          add_line(n, fmt::format("    {:016x} ('{}') {}, {} pending  [{}]", port.address.value(), name,
                                  counted(port.main.size(), "message queued", "messages queued"),
                                  port.pending.size(), nt::port_kind(port)));
      line["port"] = port.address;
    }
    if (ports.empty()) add_line(n, "    none");
  };
  list(fmt::format("Ports created by the process {:016x} ({}):", p->process.address.value(), p->process.name),
       own);
  list(fmt::format("Ports the process {:016x} is connected to:", p->process.address.value()), connected);
  return n;
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  const bool is_message = args.size() == 2 && (args[0] == "/m" || args[0] == "/M");
  const bool is_port = args.size() == 2 && (args[0] == "/p" || args[0] == "/P");
  const bool is_process = args.size() == 2 && (args[0] == "/lpp" || args[0] == "/LPP");
  if (!is_message && !is_port && !is_process)
    return fail(Why::unsupported, "usage: !alpc /m MESSAGE, !alpc /p PORT or !alpc /lpp PROCESS");
  if (is_process) return ports_of(session, TRY(process_of(session, args[1])));
  const VirtAddr va = TRY(evaluate(session, args[1]));
  return is_message ? message(session, va) : port(session, va);
}

}  // namespace

extern const DebuggerCommand alpc_debugger_command;
const DebuggerCommand alpc_debugger_command{
    .names = {"!alpc"},
    .usage = "!alpc /m MESSAGE | /p PORT | /lpp PROCESS",
    .help = "ALPC: a message with its server, a port with its queues, a process's ports",
    .run = run};

}  // namespace unhang::app
