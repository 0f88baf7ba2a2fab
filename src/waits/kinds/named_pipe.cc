// Named pipes: a read waits until the other end writes. The pipe's own structures are not public; who has the
// same pipe open is the other end, or one of several.
#include <algorithm>
#include <set>

#include "base/format.h"
#include "waits/io_class.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr size_t kMostEnds = 4;

// Processes with handles to a pipe of that name, other than the one that waits.
std::string other_ends(const World& world, const ThreadNode& t, const IrpNode& irp) {
  const auto mine = world.files.find(irp.file_object);
  if (mine == world.files.end() || mine->second.file.path.empty()) return {};
  std::set<size_t> ends;
  for (const auto& [va, info] : world.files)
    if (va != irp.file_object && info.file.path == mine->second.file.path &&
        info.file.device == mine->second.file.device)
      for (const size_t p : info.processes)
        if (p != t.process) ends.insert(p);
  std::string s;
  size_t shown = 0;
  for (const size_t p : ends) {
    if (shown++ == kMostEnds) return s + fmt::format(" and {} more", ends.size() - kMostEnds);
    const nt::Process& process = world.processes[p].process;
    s += fmt::format("{}{} ({})", s.empty() ? "" : ", ", process.name, process.pid);
  }
  return s;
}

void find(World& world) {
  for (Edge& e : world.edges) {
    if (std::string_view(e.kind) != "IRP") continue;
    ThreadNode* t = world.thread(e.from);
    if (t == nullptr) continue;
    for (const size_t i : t->irps) {
      const IrpNode& irp = world.irps[i];
      if (irp.irp.address != e.object || driver_short_name(irp.driver) != "npfs") continue;
      const std::string ends = other_ends(world, *t, irp);
      if (ends.empty()) continue;
      const std::string what = fmt::format("pipe {}; open also in {}", irp.file, ends);
      e.note += "; " + what;
      for (Wait& w : t->waits) w.detail += "; " + what;
    }
  }
}

}  // namespace

extern const WaitKind named_pipe_kind;
const WaitKind named_pipe_kind{.name = "named pipe", .order = 41, .find = find};

}  // namespace unhang::waits
