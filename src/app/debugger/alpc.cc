// !alpc /m MESSAGE | /p PORT: who waits for whom in an ALPC request.
#include "nt/objects/alpc.h"

#include "app/command.h"
#include "app/expression.h"
#include "base/format.h"

namespace unhang::app {

namespace {

class Lines {
 public:
  Lines() : node_(Node::shaped("lines")) { node_["lines"] = Node::list(); }
  void add(std::string text) {
    Node line = Node::map();
    line["text"] = std::move(text);
    node_["lines"].add(std::move(line));
  }
  Node take() { return std::move(node_); }

 private:
  Node node_;
};

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
  Lines out;
  out.add(fmt::format("Message {:016x}", va.value()));
  out.add(fmt::format("  MessageID             : 0x{:04X} ({})", m.id, m.id));
  out.add(fmt::format("  SequenceNumber        : 0x{:08X} ({})", static_cast<u32>(m.sequence), m.sequence));
  out.add(fmt::format("  OwnerPort             : {}", port_text(session, m.owner_port)));
  out.add(fmt::format("  WaitingThread         : {:016x}  {}", m.waiting_thread.value(),
                      is_kernel(m.waiting_thread) ? w.who(m.waiting_thread) : ""));
  out.add(fmt::format("  QueuePort             : {}", port_text(session, m.queue_port)));
  const auto port = nt::read_alpc_port(session.target(), m.queue_port);
  out.add(fmt::format("  QueuePortOwnerProcess : {}", port ? process(w, port->owner_process) : "?"));
  out.add(fmt::format("  ConnectionPort        : {}", port_text(session, m.connection_port)));
  out.add(fmt::format("  ServerThread          : {:016x}  {}", m.server_thread.value(),
                      is_kernel(m.server_thread) ? w.who(m.server_thread) : "nobody has taken it"));
  Node n = out.take();
  n["message"] = va;
  n["waiting_thread"] = m.waiting_thread;
  n["server_thread"] = m.server_thread;
  n["queue_port"] = m.queue_port;
  return n;
}

Result<Node> port(Session& session, VirtAddr va) {
  const nt::AlpcPort p = TRY(nt::read_alpc_port(session.target(), va));
  const waits::World& w = session.world();
  Lines out;
  out.add(fmt::format("Port {}", port_text(session, va)));
  out.add(fmt::format("  OwnerProcess             : {}", process(w, p.owner_process)));
  out.add(fmt::format("  ConnectionPort           : {}", port_text(session, p.connection_port)));
  out.add(fmt::format("  ServerCommunicationPort  : {:016x}", p.server_port.value()));
  out.add(fmt::format("  ClientCommunicationPort  : {:016x}", p.client_port.value()));
  const auto queue = [&](const char* name, const std::vector<VirtAddr>& messages, const nt::Walk& walk) {
    out.add("");
    out.add(fmt::format("  {} has {}{}", name, counted(messages.size(), "message", "messages"),
                        walk.complete() ? "" : fmt::format(" ({})", walk.how())));
    for (const VirtAddr m : messages) {
      const auto read = nt::read_alpc_message(session.target(), m);
      if (!read) continue;
      out.add(fmt::format("    {:016x} {:08x} {:016x} {:016x} {}", m.value(), read->id,
                          read->server_thread.value(), read->waiting_thread.value(),
                          is_kernel(read->waiting_thread) ? w.who(read->waiting_thread) : ""));
    }
  };
  queue("Main queue", p.main, p.main_walk);
  queue("Pending queue", p.pending, p.pending_walk);
  Node n = out.take();
  n["port"] = va;
  n["owner_process"] = p.owner_process;
  return n;
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  const bool is_message = args.size() == 2 && (args[0] == "/m" || args[0] == "/M");
  const bool is_port = args.size() == 2 && (args[0] == "/p" || args[0] == "/P");
  if (!is_message && !is_port) return fail(Why::unsupported, "usage: !alpc /m MESSAGE or !alpc /p PORT");
  const VirtAddr va = TRY(evaluate(session, args[1]));
  return is_message ? message(session, va) : port(session, va);
}

}  // namespace

extern const DebuggerCommand alpc_debugger_command;
const DebuggerCommand alpc_debugger_command{.names = {"!alpc"},
                                            .usage = "!alpc /m MESSAGE | /p PORT",
                                            .help = "ALPC: a message with its server, a port with its queues",
                                            .run = run};

}  // namespace unhang::app
