// A file object opened for synchronous I/O takes one request at a time: who comes meanwhile waits for the
// event FILE_OBJECT.Lock (wdm.h; Busy says that somebody has it) until the request of the other one is done.
#include <algorithm>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

// Who has a request under way for a file.
std::vector<VirtAddr> requesters(const World& world, VirtAddr file, VirtAddr but) {
  std::vector<VirtAddr> out;
  for (const ThreadNode& t : world.threads)
    if (t.thread.address != but && std::ranges::any_of(t.irps, [&](size_t i) {
          const IrpNode& irp = world.irps[i];
          return irp.irp.current() != nullptr && (irp.file_object == file || irp.irp.original_file == file);
        }))
      out.push_back(t.thread.address);
  return out;
}

void find(World& world) {
  const auto offset = world.target().bind(nt::FILE_OBJECT::Lock);
  if (!offset) return;
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
      for (const VirtAddr owner : requesters(world, file->first, t.thread.address)) {
        edge.to = owner;
        edge.note = "it has a request under way for the same file object";
        if (std::ranges::none_of(lock.owners, [&](const LockOwner& o) { return o.thread == owner; }))
          lock.owners.push_back({.thread = owner, .count = 1, .confidence = Confidence::derived});
        world.add_edge(edge);
      }
    }
  }
}

}  // namespace

extern const WaitKind file_object_lock_kind;
const WaitKind file_object_lock_kind{.name = "file object lock", .order = 35, .find = find};

}  // namespace unhang::waits
