// Threads that end: before a thread is gone its requests are cancelled, and it waits until each of them has
// come back. A driver that does not complete a cancelled request keeps the thread, its process and whoever
// waits for them; `taskkill` says that it succeeded, and the process stays.
//
// Facts: public PDBs (ETHREAD.CrossThreadFlags, whose lowest bit is Terminated); that outstanding I/O keeps a
// process from ending is in Microsoft's documentation of cancelling I/O.
#include <algorithm>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

// A request that the thread has sent and that has not come back.
std::optional<size_t> pending_request(const World& world, const ThreadNode& t) {
  for (const size_t i : t.irps)
    if (world.irps[i].irp.current() != nullptr) return i;
  return std::nullopt;
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!t.thread.ending() || !t.waiting() || t.thread.user_mode_wait || !t.waits.empty()) continue;
    const auto request = pending_request(world, t);
    if (!request) continue;
    const IrpNode& node = world.irps[*request];
    const std::string how = fmt::format("the thread is ending, which waits until this request{} comes back",
                                        node.irp.cancel ? ", which has been cancelled," : "");
    world.add_wait(
        t, {.object = t.thread.wait_blocks.empty() ? t.thread.address : t.thread.wait_blocks.front().object,
            .kind = "IRP",
            .nature = WaitNature::io,
            .detail = fmt::format("{} of IRP {} at {}: {}", node.major, node.irp.address, node.driver, how),
            .confidence = Confidence::heuristic});
    world.add_edge({.from = t.thread.address,
                    .kind = "IRP",
                    .object = node.irp.address,
                    .confidence = Confidence::heuristic,
                    .note = how});
    // Who waits for its process waits for it.
    for (Edge& e : world.edges)
      if (e.to.is_null() && e.object == t.thread.process && std::string_view(e.kind) == "ProcessObject") {
        e.to = t.thread.address;
        e.confidence = weaker(e.confidence, Confidence::heuristic);
        e.note = "the process cannot end before this thread has";
      }
  }
}

}  // namespace

extern const WaitKind ending_kind;
const WaitKind ending_kind{.name = "ending", .order = 34, .find = find};

}  // namespace unhang::waits
