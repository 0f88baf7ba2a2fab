// Oplock breaks: an opener waits until whoever holds an oplock on the file has acknowledged that it is
// broken. The holder has a request pending that asked for the oplock.
// Facts: FSCTL codes and the meaning of oplocks: ntifs.h and Microsoft, "Opportunistic Locks".
#include <algorithm>

#include "base/format.h"
#include "nt/objects/irp.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

// FSCTL_REQUEST_OPLOCK_LEVEL_1, _LEVEL_2, _BATCH_OPLOCK, _FILTER_OPLOCK, _OPLOCK.
constexpr u32 kRequests[] = {0x90000, 0x90004, 0x90008, 0x9005C, 0x90240};
constexpr size_t kCodeArgument = 2;  // third parameter of a file system control
constexpr size_t kMostCandidates = 8;

bool in_oplock_package(const ThreadNode& t) {
  return std::any_of(t.stack.symbols.begin(), t.stack.symbols.end(), [](std::string_view s) {
    return s.starts_with("nt!FsRtl") && s.find("plock") != s.npos;
  });
}

VirtAddr fs_context(const World& world, VirtAddr file) {
  const auto it = world.files.find(file);
  return it == world.files.end() ? VirtAddr() : it->second.file.fs_context;
}

bool holds_oplock(const IrpNode& node) {
  for (const nt::IrpStackLocation& l : node.irp.locations)
    if (l.major == nt::kMjFileSystemControl &&
        std::find(std::begin(kRequests), std::end(kRequests), static_cast<u32>(l.arguments[kCodeArgument])) !=
            std::end(kRequests))
      return true;
  return false;
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!t.waiting() || t.nature() == WaitNature::lock || !in_oplock_package(t)) continue;
    const VirtAddr object =
        t.thread.wait_blocks.empty() ? t.thread.address : t.thread.wait_blocks.front().object;
    Edge edge{
        .from = t.thread.address, .kind = "oplock", .object = object, .confidence = Confidence::heuristic};
    std::string file;
    for (const size_t own : t.irps) {
      const IrpNode& mine = world.irps[own];
      const VirtAddr fcb = fs_context(world, mine.file_object);
      if (file.empty()) file = mine.file;
      for (const IrpNode& other : world.irps) {
        if (other.irp.thread == t.thread.address || !holds_oplock(other)) continue;
        const bool same = (is_kernel(fcb) && fs_context(world, other.file_object) == fcb) ||
                          (!mine.file.empty() && other.file == mine.file);
        if (same && edge.candidates.size() < kMostCandidates)
          edge.candidates.push_back(
              {other.irp.thread,
               fmt::format("its request {} holds an oplock on the file", other.irp.address)});
      }
    }
    if (edge.candidates.size() == 1) {
      edge.to = edge.candidates.front().thread;
      edge.note = edge.candidates.front().why;
    } else {
      edge.note = edge.candidates.empty() ? "no pending oplock request for the file was found"
                                          : "several oplocks on the file";
    }
    world.add_wait(
        t, {.object = object,
            .kind = "oplock",
            .nature = WaitNature::request,
            .detail = fmt::format("acknowledgement of an oplock break{}{}", file.empty() ? "" : " on ", file),
            .confidence = Confidence::heuristic});
    world.add_edge(std::move(edge));
  }
}

}  // namespace

extern const WaitKind oplock_kind;
const WaitKind oplock_kind{.name = "oplock", .order = 37, .find = find};

}  // namespace unhang::waits
