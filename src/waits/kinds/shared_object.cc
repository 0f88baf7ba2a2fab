// Events, semaphores and timers that several processes have open: who is to signal one is not recorded, but
// it is somebody who has a handle to it. Other processes' handles are named.
#include <algorithm>
#include <set>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr size_t kMostNamed = 4;

std::string others(const World& world, const std::set<size_t>& processes, size_t own) {
  std::string s;
  size_t named = 0;
  for (const size_t p : processes) {
    if (p == own) continue;
    if (named++ == kMostNamed) return s + " and others";
    s += fmt::format("{}{} ({})", s.empty() ? "" : ", ", world.processes[p].process.name,
                     world.processes[p].process.pid);
  }
  return s;
}

void find(World& world) {
  std::unordered_map<VirtAddr, std::set<size_t>>
      holders;  // of what threads wait for without a known signaller
  for (const ThreadNode& t : world.threads)
    for (const Wait& w : t.waits)
      if (w.nature == WaitNature::event && is_kernel(w.object)) holders.try_emplace(w.object);
  for (size_t p = 0; p < world.processes.size(); p++)
    for (const nt::Handle& h : world.processes[p].handles)
      if (const auto it = holders.find(h.object); it != holders.end()) it->second.insert(p);
  for (ThreadNode& t : world.threads)
    for (Wait& w : t.waits) {
      if (w.nature != WaitNature::event) continue;
      const auto it = holders.find(w.object);
      if (it == holders.end() || it->second.empty()) continue;
      const std::string name = world.objects().path(w.object), open = others(world, it->second, t.process);
      if (!name.empty()) w.detail = w.detail.empty() ? name : fmt::format("{}: {}", name, w.detail);
      if (!open.empty()) w.detail += fmt::format("{}open also in {}", w.detail.empty() ? "" : "; ", open);
    }
}

}  // namespace

extern const WaitKind shared_object_kind;
const WaitKind shared_object_kind{.name = "shared object", .order = 120, .find = find};

}  // namespace unhang::waits
