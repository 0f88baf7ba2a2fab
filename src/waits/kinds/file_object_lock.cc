// A file object opened for synchronous I/O takes one request at a time: who comes meanwhile waits for the
// event FILE_OBJECT.Lock (wdm.h; Busy says that somebody has it) until the request of the other one is done.
#include <algorithm>
#include <optional>
#include <unordered_map>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr size_t kMostOwners = 8;

using Requesters = std::unordered_map<VirtAddr, std::vector<VirtAddr>>;

// Who has requests under way, by file object.
Requesters requesters(const World& world) {
  Requesters out;
  const auto add = [&](VirtAddr file, VirtAddr thread) {
    std::vector<VirtAddr>& list = out[file];
    if (list.empty() || list.back() != thread) list.push_back(thread);
  };
  for (const ThreadNode& t : world.threads)
    for (const size_t i : t.irps) {
      const IrpNode& irp = world.irps[i];
      if (irp.irp.current() == nullptr) continue;
      add(irp.file_object, t.thread.address);
      if (irp.irp.original_file != irp.file_object) add(irp.irp.original_file, t.thread.address);
    }
  return out;
}

void find(World& world) {
  const auto offset = world.target().bind(nt::FILE_OBJECT::Lock);
  if (!offset) return;
  std::optional<Requesters> by_file;
  for (ThreadNode& t : world.threads) {
    if (!t.waiting() || t.nature() == WaitNature::lock) continue;
    for (const nt::WaitBlock& b : t.thread.wait_blocks) {
      const auto file = world.files.find(b.object - offset->offset);
      if (file == world.files.end() ||
          nt::Object(world.target(), file->first).value_or(nt::FILE_OBJECT::Busy, 0) == 0)
        continue;
      const std::string path = file->second.file.full_path();
      Lock& lock = world.add_lock({.address = b.object,
                                   .kind = "file object lock",
                                   .name = path,
                                   .mode = "exclusive",
                                   .confidence = Confidence::derived});
      lock.waiters.push_back(
          {.thread = t.thread.address, .access = "exclusive", .waited_ms = t.thread.waited_ms});
      world.add_wait(t, {.object = b.object,
                         .kind = "file object lock",
                         .nature = WaitNature::lock,
                         .detail = fmt::format("file object lock of {}: one request at a time", path),
                         .confidence = Confidence::derived});
      Edge edge{.from = t.thread.address,
                .kind = "file object lock",
                .object = b.object,
                .confidence = Confidence::derived,
                .file = file->first};
      if (!by_file) by_file = requesters(world);
      std::vector<VirtAddr> owners;
      for (const VirtAddr owner : (*by_file)[file->first]) {
        const bool queues =
            std::ranges::any_of(world.thread(owner)->thread.wait_blocks,
                                [&](const nt::WaitBlock& other) { return other.object == b.object; });
        if (!queues && owners.size() < kMostOwners) owners.push_back(owner);
      }
      // Only one of them can have it.
      edge.any_of = owners.size() > 1;
      if (edge.any_of) edge.confidence = Confidence::heuristic;
      for (const VirtAddr owner : owners) {
        edge.to = owner;
        edge.note = "it has a request under way for the same file object";
        if (std::ranges::none_of(lock.owners, [&](const LockOwner& o) { return o.thread == owner; }))
          lock.owners.push_back(
              {.thread = owner, .count = 1, .alive = world.alive(owner), .confidence = edge.confidence});
        world.add_edge(edge);
      }
    }
  }
}

}  // namespace

extern const WaitKind file_object_lock_kind;
const WaitKind file_object_lock_kind{.name = "file object lock", .order = 35, .find = find};

}  // namespace unhang::waits
