// A thread waits for an event on its own stack. Whoever is to signal it has been given its address: a thread
// that keeps a pointer to the event, or to the structure around it, on its own stack is at work for the
// waiter. File systems and filters hand requests to worker threads in this way.
#include <algorithm>

#include "base/format.h"
#include "waits/kind.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

constexpr u64 kAround = 0x100;  // bytes around the event that the structure may take
constexpr size_t kMostCandidates = 8;

void find(World& world) {
  std::vector<Range> ranges;
  std::vector<std::pair<VirtAddr, VirtAddr>> waits;  // thread, event
  for (const ThreadNode& t : world.threads) {
    if (!t.waiting() || t.nature() != WaitNature::event) continue;
    for (const nt::WaitBlock& b : t.thread.wait_blocks) {
      if (b.object < t.thread.stack_limit || b.object >= t.thread.stack_base) continue;
      ranges.push_back({std::max(t.thread.stack_limit, b.object - kAround),
                        std::min(t.thread.stack_base, b.object + kAround)});
      waits.emplace_back(t.thread.address, b.object);
    }
  }
  const auto found = find_references(world, ranges);
  for (size_t i = 0; i < found.size(); i++) {
    Edge edge{.from = waits[i].first,
              .kind = "event",
              .object = waits[i].second,
              .confidence = Confidence::heuristic};
    for (const Reference& r : found[i]) {
      const ThreadNode* t = world.thread(r.thread);
      // A worker that waits for work has ended what it did: what it keeps is left over.
      if (t == nullptr || t->thread.terminated() || t->nature() == WaitNature::idle ||
          edge.candidates.size() >= kMostCandidates)
        continue;
      const bool known = std::any_of(edge.candidates.begin(), edge.candidates.end(),
                                     [&](const Candidate& c) { return c.thread == r.thread; });
      if (!known)
        edge.candidates.push_back(
            {r.thread, fmt::format("it keeps a pointer to the waiter's event on its stack ({})", r.at)});
    }
    if (edge.candidates.empty()) continue;
    ThreadNode& t = *world.thread(waits[i].first);
    if (edge.candidates.size() == 1) {
      edge.to = edge.candidates.front().thread;
      edge.note = edge.candidates.front().why;
    } else {
      edge.note = "several threads keep a pointer to the waiter's event on their stacks";
    }
    world.add_wait(
        t, {.object = waits[i].second,
            .kind = "event",
            .nature = WaitNature::request,
            .detail = edge.to.is_null() ? edge.note
                                        : fmt::format("{} works for it: {}", world.who(edge.to), edge.note),
            .confidence = Confidence::heuristic});
    world.add_edge(std::move(edge));
  }
}

}  // namespace

extern const WaitKind rendezvous_kind;
const WaitKind rendezvous_kind{.name = "rendezvous", .order = 110, .find = find};

}  // namespace unhang::waits
