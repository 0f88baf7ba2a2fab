// ALPC messages that nobody has taken: they lie in the queue of a port, and the port's workers are those who
// could. Late, because which threads of a server could is told by what they wait for.
#include <algorithm>

#include "base/format.h"
#include "nt/objects/alpc.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr size_t kMostCandidates = 16;

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

// Whether a thread is held up by something that can be named, or runs: it is between two messages. One that
// waits for an event may have nothing to do with messages at all.
bool is_between_messages(const ThreadNode& t) {
  if (!t.waiting()) return true;
  switch (t.nature()) {
    case WaitNature::lock:
    case WaitNature::request:
    case WaitNature::io:
    case WaitNature::suspended:
      return true;
    default:
      return false;
  }
}

// Nobody has taken the message: says why as far as the server's threads tell.
void queued(World& world, Edge edge, const nt::AlpcMessage& message) {
  const auto port = nt::read_alpc_port(world.target(), message.port());
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
    if (!waits_for_work(*t) && !t->thread.terminated() && t->thread.address != edge.from) busy.push_back(t);
  const std::string path = world.objects().path(message.port());
  const std::string state = fmt::format("message {:#x} lies in the queue of port {} of {}", message.id,
                                        path.empty() ? hex(message.port()) : path, who);
  for (const ThreadNode* t : busy) {
    if (edge.candidates.size() >= kMostCandidates) break;
    edge.candidates.push_back({t->thread.address, bound ? "a worker of the port that does something else"
                                                        : "a thread of the server"});
  }
  const bool nobody_free =
      std::none_of(workers.begin(), workers.end(), [](const ThreadNode* t) { return waits_for_work(*t); });
  if (!bound) std::erase_if(busy, [](const ThreadNode* t) { return !is_between_messages(*t); });
  if (nobody_free && !busy.empty()) {
    // Every worker is at work: whichever ends first takes it.
    edge.candidates.clear();
    edge.any_of = busy.size() > 1;
    edge.confidence = weaker(edge.confidence, bound ? Confidence::derived : Confidence::heuristic);
    edge.note = bound ? fmt::format("{}; all {} workers of the port are busy", state, busy.size())
                      : fmt::format("{}; none of its threads waits for work, {}", state,
                                    counted(busy.size(), "is held up or runs", "are held up or run"));
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
  for (const ThreadNode& t : world.threads) {
    if (!t.waiting() || t.thread.wait_reason != nt::kWrLpcReply) continue;
    const auto message = nt::awaited_message(world.target(), t.thread.address);
    if (!message || message->taken()) continue;
    queued(
        world,
        {.from = t.thread.address,
         .kind = "ALPC",
         .object = message->address,
         .confidence = world.target().bind(nt::KALPC_MESSAGE::ServerThread).value_or(nt::Bound{}).confidence},
        *message);
  }
}

}  // namespace

extern const WaitKind alpc_queue_kind;
const WaitKind alpc_queue_kind{.name = "ALPC queue", .order = 90, .find = find};

}  // namespace unhang::waits
