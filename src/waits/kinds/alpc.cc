// ALPC requests (RPC, COM and the old LPC run over it): the client waits for a reply. The message names the
// thread that took it; as long as nobody has, it lies in the queue of a port, and the port's workers are
// those who could.
#include "nt/objects/alpc.h"

#include <algorithm>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr size_t kMostCandidates = 16;

std::string name_of(const World& world, VirtAddr port) {
  std::string path = is_kernel(port) ? world.objects().path(port) : "";
  return path.empty() ? hex(port) : path;
}

const ProcessNode* process_at(const World& world, VirtAddr va) {
  for (const ProcessNode& p : world.processes)
    if (p.process.address == va) return &p;
  return nullptr;
}

// Whether a thread waits for work: in the port itself, or in the pool's or completion port's queue.
bool waits_for_work(const ThreadNode& t) {
  return t.waiting() && (t.thread.wait_reason == nt::kWrLpcReceive || t.thread.wait_reason == nt::kWrQueue);
}

// The threads that take messages off a port: those bound to its completion port's queue. A thread is bound to
// the queue that it last took something from, also while it works.
std::vector<const ThreadNode*> workers_of(const World& world, const nt::AlpcPort& port,
                                          const ProcessNode& server) {
  std::vector<const ThreadNode*> bound;
  if (!is_kernel(port.completion_port)) return bound;
  for (const size_t i : server.threads) {
    const ThreadNode& t = world.threads[i];
    if (t.thread.queue == port.completion_port) bound.push_back(&t);
  }
  return bound;
}

// Nobody has taken the message: says why as far as the server's threads tell.
void queued(World& world, Edge& edge, const nt::AlpcMessage& message) {
  const VirtAddr port_va = is_kernel(message.queue_port) ? message.queue_port : message.connection_port;
  const auto port = nt::read_alpc_port(world.target(), port_va);
  const ProcessNode* server = port ? process_at(world, port->owner_process) : nullptr;
  if (server == nullptr) {
    edge.note = "nobody has taken the message, and the port's process cannot be read";
    return world.add_edge(edge);
  }
  const std::string who = fmt::format("{} ({})", server->process.name, server->process.pid);
  std::vector<const ThreadNode*> workers = workers_of(world, *port, *server);
  const bool bound = !workers.empty();
  if (!bound)
    for (const size_t i : server->threads) workers.push_back(&world.threads[i]);
  std::vector<const ThreadNode*> busy;
  for (const ThreadNode* t : workers)
    if (!waits_for_work(*t) && !t->thread.terminated()) busy.push_back(t);
  const std::string state = fmt::format("message {:#x} lies in the queue of port {} of {}", message.id,
                                        name_of(world, port_va), who);
  for (const ThreadNode* t : busy) {
    if (edge.candidates.size() >= kMostCandidates) break;
    edge.candidates.push_back({t->thread.address, bound ? "a worker of the port that does something else"
                                                        : "a thread of the server"});
  }
  if (bound && busy.size() == workers.size()) {
    // Every worker is at work: whichever ends first takes it.
    edge.candidates.clear();
    edge.any_of = busy.size() > 1;
    edge.confidence = weaker(edge.confidence, Confidence::derived);
    edge.note = fmt::format("{}; all {} workers of the port are busy", state, workers.size());
    for (const ThreadNode* t : busy) {
      edge.to = t->thread.address;
      world.add_edge(edge);
    }
    return;
  }
  edge.note = bound ? fmt::format("{}; {} of its {} workers wait for work", state,
                                  workers.size() - busy.size(), workers.size())
                    : fmt::format("{}; which of its threads serve the port is not known", state);
  world.add_edge(edge);
}

void find(World& world) {
  for (size_t i = 0; i < world.threads.size(); i++) {
    if (!world.threads[i].waiting() || world.threads[i].thread.wait_reason != nt::kWrLpcReply) continue;
    const VirtAddr from = world.threads[i].thread.address;
    const VirtAddr object = world.threads[i].thread.wait_blocks.empty()
                                ? from
                                : world.threads[i].thread.wait_blocks.front().object;
    const auto message = nt::awaited_message(world.target(), from);
    if (!message) {
      world.add_wait(world.threads[i], {.object = object,
                                        .kind = "ALPC",
                                        .nature = WaitNature::event,
                                        .detail = fmt::format("reply to a message that cannot be read: {}",
                                                              text(message.error())),
                                        .confidence = Confidence::derived});
      continue;
    }
    const Confidence confidence =
        world.target().bind(nt::KALPC_MESSAGE::ServerThread).value_or(nt::Bound{}).confidence;
    const VirtAddr server(message->server_thread.value() & ~u64{7});
    Edge edge{.from = from, .kind = "ALPC", .object = message->address, .confidence = confidence};
    std::string detail;
    if (is_kernel(server) && world.find_or_adopt(server) != nullptr) {
      edge.to = server;
      edge.note = fmt::format("message {:#x}, taken by that thread", message->id);
      detail = fmt::format("reply to message {} from {}", message->address, world.who(server));
      world.add_edge(edge);
    } else {
      queued(world, edge, *message);
      detail = fmt::format(
          "reply to message {} that nobody has taken from port {}", message->address,
          name_of(world, is_kernel(message->queue_port) ? message->queue_port : message->connection_port));
    }
    world.add_wait(world.threads[i], {.object = object,
                                      .kind = "ALPC",
                                      .nature = WaitNature::request,
                                      .detail = detail,
                                      .confidence = confidence});
  }
}

}  // namespace

extern const WaitKind alpc_kind;
const WaitKind alpc_kind{.name = "ALPC", .order = 20, .find = find};

}  // namespace unhang::waits
