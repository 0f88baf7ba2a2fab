// Waiting for a process that cannot end: it ends when its threads have, and one of them is held up. Most
// waits for processes are no more than that, a parent's for its child: only who waits for nothing else, and a
// process none of whose threads could end it now, are looked at.
#include <algorithm>

#include "waits/kind.h"

namespace unhang::waits {

namespace {

bool held_up(const ThreadNode& t) {
  const WaitNature n = t.nature();
  return t.waiting() && (n == WaitNature::lock || n == WaitNature::request || n == WaitNature::io);
}

void find(World& world) {
  std::vector<Edge> fresh;
  for (const Edge& e : world.edges) {
    const ThreadNode* t = world.thread(e.from);
    if (std::string_view(e.kind) != "ProcessObject" || !e.to.is_null() || t == nullptr ||
        t->thread.wait_blocks.size() != 1)
      continue;
    const auto p = std::find_if(world.processes.begin(), world.processes.end(),
                                [&](const ProcessNode& n) { return n.process.address == e.object; });
    if (p == world.processes.end() || p->process.address == t->thread.process) continue;
    const bool all_wait = std::all_of(p->threads.begin(), p->threads.end(), [&](size_t i) {
      return world.threads[i].waiting() || world.threads[i].thread.terminated();
    });
    if (!all_wait) continue;
    for (const size_t i : p->threads)
      if (held_up(world.threads[i]))
        fresh.push_back({.from = e.from,
                         .to = world.threads[i].thread.address,
                         .kind = e.kind,
                         .object = e.object,
                         .confidence = Confidence::heuristic,
                         .note = "the process ends when its threads have, and this one is held up"});
  }
  for (Edge& e : fresh) world.add_edge(std::move(e));
}

}  // namespace

extern const WaitKind process_end_kind;
// After all that say what threads wait for.
const WaitKind process_end_kind{.name = "process end", .order = 90, .find = find};

}  // namespace unhang::waits
