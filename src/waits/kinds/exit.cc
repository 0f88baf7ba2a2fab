// Waiting for a thread or a process to end.
#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

void find(World& world) {
  for (ThreadNode& t : world.threads)
    for (const nt::WaitBlock& block : t.thread.wait_blocks) {
      if (block.object_type != static_cast<u8>(nt::DispatcherType::thread) &&
          block.object_type != static_cast<u8>(nt::DispatcherType::process))
        continue;
      const auto d = nt::read_dispatcher(world.target(), block.object);
      if (!d) continue;
      const Confidence confidence =
          world.target().bind(nt::KWAIT_BLOCK::Object).value_or(nt::Bound{}).confidence;
      if (d->type == nt::DispatcherType::thread) {
        world.add_wait(t, {.object = block.object,
                           .kind = "Thread",
                           .nature = WaitNature::event,
                           .detail = fmt::format("end of thread {}", world.who(block.object)),
                           .confidence = confidence});
        world.add_edge({.from = t.thread.address,
                        .to = block.object,
                        .kind = "Thread",
                        .object = block.object,
                        .confidence = confidence});
      } else if (d->type == nt::DispatcherType::process) {
        std::string name;
        for (const ProcessNode& p : world.processes)
          if (p.process.address == block.object) name = fmt::format("{} ({})", p.process.name, p.process.pid);
        // A service host waits for its process for as long as it lives: no statement about a hang.
        world.add_wait(t,
                       {.object = block.object,
                        .kind = "ProcessObject",
                        .nature = WaitNature::event,
                        .detail = fmt::format("end of process {}", name.empty() ? hex(block.object) : name),
                        .confidence = confidence});
        world.add_edge({.from = t.thread.address,
                        .kind = "ProcessObject",
                        .object = block.object,
                        .confidence = confidence});
      }
    }
}

}  // namespace

extern const WaitKind exit_kind;
const WaitKind exit_kind{.name = "exit", .order = 30, .find = find};

}  // namespace unhang::waits
