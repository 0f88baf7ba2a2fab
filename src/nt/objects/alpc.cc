#include "nt/objects/alpc.h"

#include "nt/objects/thread.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {

constexpr size_t kMostMessages = 4096;

// Messages on one of a port's queues.
std::vector<VirtAddr> messages(const Target& target, VirtAddr port, const MemberLine& queue, Walk& walk) {
  std::vector<VirtAddr> out;
  const auto head = Object(target, port).address(queue);
  const auto link = target.bind(KALPC_MESSAGE::Entry);
  if (!head || !link) return out;
  walk = walk_list(target.kernel(), *head, kMostMessages);
  for (const VirtAddr l : walk.links) out.push_back(l - link->offset);
  return out;
}

}  // namespace

Result<AlpcMessage> read_alpc_message(const Target& target, VirtAddr va) {
  const Object o(target, va);
  AlpcMessage m{.address = va};
  m.waiting_thread = TRY(o[KALPC_MESSAGE::WaitingThread]);
  m.server_thread = VirtAddr(TRY(o[KALPC_MESSAGE::ServerThread]).value() & ~u64{7});
  m.queue_port = o.value_or(KALPC_MESSAGE::PortQueue, {});
  m.owner_port = o.value_or(KALPC_MESSAGE::OwnerPort, {});
  m.connection_port = o.value_or(KALPC_MESSAGE::ConnectionPort, {});
  m.id = o.value_or(KALPC_MESSAGE::MessageId, 0);
  m.sequence = o.value_or(KALPC_MESSAGE::SequenceNo, 0);
  return m;
}

Result<AlpcMessage> awaited_message(const Target& target, VirtAddr thread) {
  const VirtAddr raw = TRY(Object(target, thread)[ETHREAD::AlpcMessage]);
  const VirtAddr va(raw.value() & ~u64{7});
  if (!is_kernel(va))
    return fail(Error{.why = Why::implausible, .va = thread, .type = "_ETHREAD", .member = "AlpcMessage"});
  const AlpcMessage m = TRY(read_alpc_message(target, va));
  if (m.waiting_thread != thread)
    return fail(
        Error{.why = Why::implausible, .va = va, .type = "_KALPC_MESSAGE", .member = "WaitingThread"});
  return m;
}

Result<AlpcPort> read_alpc_port(const Target& target, VirtAddr va) {
  const Object o(target, va);
  AlpcPort p{.address = va};
  p.owner_process = TRY(o[ALPC_PORT::OwnerProcess]);
  if (const auto info = o.maybe(ALPC_PORT::CommunicationInfo); info && is_kernel(*info)) {
    const Object c(target, *info);
    p.connection_port = c.value_or(ALPC_COMMUNICATION_INFO::ConnectionPort, {});
    p.server_port = c.value_or(ALPC_COMMUNICATION_INFO::ServerCommunicationPort, {});
    p.client_port = c.value_or(ALPC_COMMUNICATION_INFO::ClientCommunicationPort, {});
  }
  p.completion_port = o.value_or(ALPC_PORT::CompletionPort, {});
  p.main_length = o.value_or(ALPC_PORT::MainQueueLength, 0);
  p.pending_length = o.value_or(ALPC_PORT::PendingQueueLength, 0);
  p.main = messages(target, va, ALPC_PORT::MainQueue, p.main_walk);
  p.pending = messages(target, va, ALPC_PORT::PendingQueue, p.pending_walk);
  return p;
}

std::string_view port_kind(const AlpcPort& p) {
  if (p.address == p.connection_port) return "ALPC_CONNECTION_PORT";
  if (p.address == p.server_port) return "ALPC_SERVER_COMMUNICATION_PORT";
  if (p.address == p.client_port) return "ALPC_CLIENT_COMMUNICATION_PORT";
  return "ALPC_PORT";
}

}  // namespace unhang::nt
