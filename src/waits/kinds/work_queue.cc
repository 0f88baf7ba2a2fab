// Queues and their workers: which there are, who waits in them for work (nobody suffers), and who waits for
// something that still lies in one (behind its busy workers).
#include "nt/objects/work_queue.h"

#include <algorithm>
#include <map>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr size_t kMostItems = 4096;

// Windows 7 keeps the executive's in an array by WORK_QUEUE_TYPE (wdm.h); !exqueue calls them so.
std::string_view executive_name(const nt::Target& target, VirtAddr queue) {
  static constexpr std::string_view kTypes[] = {"Critical WorkQueue", "Delayed WorkQueue",
                                                "HyperCritical WorkQueue"};
  const auto array = target.symbol("ExWorkerQueue");
  const u64 size = target.layouts().size_of("_EX_WORK_QUEUE").value_or(0);
  if (!array || queue < *array || size == 0) return {};
  const u64 at = queue - *array;
  return at % size == 0 && at / size < std::size(kTypes) ? kTypes[at / size] : std::string_view();
}

std::string name_of(const World& world, const QueueNode& q) {
  if (const std::string_view s = executive_name(world.target(), q.queue.address); !s.empty())
    return std::string(s);
  if (std::string s = world.target().symbolize(q.queue.address); !s.empty()) return s;
  const ThreadNode* t = world.thread(q.workers.front());
  const ProcessNode* p = t == nullptr ? nullptr : world.process_of(*t);
  if (p == nullptr) return "queue";
  if (q.executive) return q.queue.threads != 0 ? "executive work queue" : "work queue of System";
  return fmt::format("queue of {} ({})", p->process.name, p->process.pid);
}

void collect(World& world) {
  std::map<VirtAddr, std::vector<const ThreadNode*>> by_queue;
  for (const ThreadNode& t : world.threads)
    if (is_kernel(t.thread.queue) && !t.thread.terminated()) by_queue[t.thread.queue].push_back(&t);
  // Threads may wait in a queue that they are not bound to yet.
  for (const ThreadNode& t : world.threads)
    if (t.waiting() && t.thread.wait_reason == nt::kWrQueue)
      for (const nt::WaitBlock& b : t.thread.wait_blocks)
        if (auto& list = by_queue[b.object]; std::find(list.begin(), list.end(), &t) == list.end())
          list.push_back(&t);
  for (const auto& [va, threads] : by_queue) {
    auto queue = nt::read_work_queue(world.target(), va);
    if (!queue) {
      if (queue.error().why == Why::not_in_dump)
        world.gaps.push_back({"work queue", hex(va), text(queue.error())});
      continue;
    }
    QueueNode q{.queue = std::move(*queue), .name = "", .workers = {}, .idle = {}};
    q.executive = true;
    for (const ThreadNode* t : threads) {
      q.workers.push_back(t->thread.address);
      q.executive &= t->thread.pid == nt::kSystemPid;
      const bool idle =
          t->waiting() && std::any_of(t->thread.wait_blocks.begin(), t->thread.wait_blocks.end(),
                                      [&](const nt::WaitBlock& b) { return b.object == va; });
      if (idle) q.idle.push_back(t->thread.address);
    }
    q.name = name_of(world, q);
    world.queues.push_back(std::move(q));
  }
}

// A queued item whose parameter leads to the stack of a thread: that thread waits for it, through an event
// beside what the parameter points to. It waits behind whatever the workers do.
void tie_items(World& world) {
  struct Stack {
    VirtAddr base;
    size_t thread;
  };
  std::map<VirtAddr, Stack> stacks;  // by limit
  for (size_t i = 0; i < world.threads.size(); i++) {
    const ThreadNode& t = world.threads[i];
    if (t.waiting() && t.nature() == WaitNature::event)
      stacks[t.thread.stack_limit] = {t.thread.stack_base, i};
  }
  if (stacks.empty()) return;
  auto owner = [&](VirtAddr va) -> ThreadNode* {
    auto it = stacks.upper_bound(va);
    if (it == stacks.begin()) return nullptr;
    --it;
    return va < it->second.base ? &world.threads[it->second.thread] : nullptr;
  };
  for (const QueueNode& q : world.queues) {
    for (size_t i = 0; i < q.queue.entries.size() && i < kMostItems; i++) {
      const auto item = nt::read_work_item(world.target(), q.queue.entries[i]);
      if (!item) continue;
      ThreadNode* t = owner(item->parameter);
      if (t == nullptr) t = owner(item->address);
      if (t == nullptr) continue;
      const std::string routine = world.target().symbolize(item->routine);
      for (const nt::WaitBlock& b : t->thread.wait_blocks)
        world.add_wait(*t, {.object = b.object,
                            .kind = "work item",
                            .nature = WaitNature::request,
                            .detail = fmt::format("work item {} ({}) that lies in {}", item->address,
                                                  routine.empty() ? hex(item->routine) : routine, q.name),
                            .confidence = Confidence::heuristic});
      Edge edge{
          .from = t->thread.address,
          .kind = "work item",
          .object = item->address,
          .confidence = Confidence::heuristic,
          .note = fmt::format("queued behind {} other items; its parameter leads to the waiter's stack", i)};
      if (!q.idle.empty()) {
        world.add_edge(std::move(edge));  // a worker is free: it will be taken
        continue;
      }
      edge.any_of = q.workers.size() > 1;
      for (const VirtAddr w : q.workers) {
        edge.to = w;
        world.add_edge(edge);
      }
    }
  }
}

void find(World& world) {
  collect(world);
  tie_items(world);
}

}  // namespace

extern const WaitKind work_queue_kind;
const WaitKind work_queue_kind{.name = "work queue", .order = 50, .find = find};

}  // namespace unhang::waits
