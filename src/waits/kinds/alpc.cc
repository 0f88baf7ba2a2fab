// ALPC requests (RPC, COM and the old LPC run over it): the client waits for a reply. The message names the
// thread that took it. (As long as nobody has: alpc_queue.)
#include "nt/objects/alpc.h"

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

std::string port_name(const World& world, VirtAddr port) {
  std::string path = is_kernel(port) ? world.objects().path(port) : "";
  return path.empty() ? hex(port) : path;
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
    std::string detail;
    if (message->taken()) {
      const VirtAddr server = message->server_thread;
      world.find_or_adopt(server);
      detail = fmt::format("reply to message {} from {}", message->address, world.who(server));
      world.add_edge({.from = from,
                      .to = server,
                      .kind = "ALPC",
                      .object = message->address,
                      .confidence = confidence,
                      .note = fmt::format("message {:#x}, taken by that thread", message->id)});
    } else {
      detail = fmt::format("reply to message {} that nobody has taken from port {}", message->address,
                           port_name(world, message->port()));
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
