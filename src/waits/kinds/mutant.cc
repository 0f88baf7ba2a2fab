// Mutants (mutexes of the object manager): the owner stands in the object.
#include "waits/kind.h"

namespace unhang::waits {

namespace {

void add(World& world, ThreadNode& t, VirtAddr object, const nt::Dispatcher& d) {
  const Confidence confidence =
      world.target().bind(nt::KMUTANT::OwnerThread).value_or(nt::Bound{}).confidence;
  Lock fresh{.address = object,
             .kind = "Mutant",
             .mode = d.signal_state <= 0 ? "exclusive" : "free",
             .confidence = confidence};
  if (const auto info = world.objects().info(object); info && info->type == "Mutant")
    fresh.name = world.objects().path(object);
  if (fresh.name.empty()) fresh.name = world.target().symbolize(object);
  if (is_kernel(d.owner_thread)) {
    fresh.owners.push_back({.thread = d.owner_thread,
                            .count = static_cast<u32>(1 - d.signal_state),  // one down for each acquisition
                            .alive = world.alive(d.owner_thread),
                            .confidence = confidence});
  }
  Lock& lock = world.add_lock(std::move(fresh));
  lock.waiters.push_back(
      {.thread = t.thread.address, .access = "exclusive", .waited_ms = t.thread.waited_ms});
  world.add_wait(t, {.object = object,
                     .kind = "Mutant",
                     .nature = WaitNature::lock,
                     .detail = "exclusive access",
                     .confidence = confidence});
  Edge edge{.from = t.thread.address, .kind = "Mutant", .object = object, .confidence = confidence};
  if (!lock.owners.empty()) edge.to = lock.owners.front().thread;
  if (d.signal_state > 0) edge.note = "the mutant is free: the thread is about to get it";
  if (!is_kernel(d.owner_thread)) edge.note = "no owner stands in the mutant";
  world.add_edge(std::move(edge));
}

void find(World& world) {
  for (size_t i = 0; i < world.threads.size(); i++) {
    const std::vector<nt::WaitBlock> blocks = world.threads[i].thread.wait_blocks;
    for (const nt::WaitBlock& block : blocks) {
      if (block.object_type != static_cast<u8>(nt::DispatcherType::mutant)) continue;
      const auto d = nt::read_dispatcher(world.target(), block.object);
      if (!d || d->type != nt::DispatcherType::mutant) continue;
      // An owner that has ended is on no list.
      if (is_kernel(d->owner_thread)) world.find_or_adopt(d->owner_thread);
      add(world, world.threads[i], block.object, *d);
    }
  }
}

}  // namespace

extern const WaitKind mutant_kind;
const WaitKind mutant_kind{.name = "Mutant", .order = 20, .find = find};

}  // namespace unhang::waits
