// !exqueue: work queues with their workers and what is queued.
#include "app/command.h"
#include "app/lines.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

constexpr size_t kMostItems = 32;

Result<Node> run(Session& session, const std::vector<std::string>&) {
  const waits::World& w = session.world();
  Node n = lines_node();
  const auto add = [&](std::string s) -> Node& { return add_line(n, std::move(s)); };
  for (const waits::QueueNode& q : w.queues) {
    if (!q.executive) continue;
    Node& head = add(fmt::format("**** {} {:016x} ( Threads: {}{}, Concurrency: {}/{}, queued: {} )", q.name,
                                 q.queue.address.value(), q.workers.size(),
                                 q.queue.most_threads == 0 ? "" : fmt::format("/{}", q.queue.most_threads),
                                 q.queue.current, q.queue.maximum, q.queue.entries.size()));
    head["queue"] = q.queue.address;
    head["workers"] = u64{q.workers.size()};
    head["idle"] = u64{q.idle.size()};
    head["queued"] = u64{q.queue.entries.size()};
    for (const VirtAddr va : q.workers) {
      const waits::ThreadNode* t = w.thread(va);
      if (t == nullptr) continue;
      const bool idle = std::find(q.idle.begin(), q.idle.end(), va) != q.idle.end();
      Node& line = add(fmt::format(
          "THREAD {:016x}  Cid {:04x}.{:04x}  {}", va.value(), t->thread.pid, t->thread.tid,
          idle               ? "idle"
          : !t->waiting()    ? std::string(nt::state_word(t->thread.state))
          : t->waits.empty() ? "WAIT"
                             : fmt::format("WAIT: {} {}", t->waits.front().kind, t->waits.front().detail)));
      line["thread"] = va;
    }
    for (size_t i = 0; i < q.queue.entries.size() && i < kMostItems; i++) {
      const auto item = nt::read_work_item(session.target(), q.queue.entries[i]);
      if (!item) {
        add(fmt::format("PENDING: {}", text(item.error())));
        break;
      }
      const std::string routine = session.target().symbolize(item->routine);
      Node& line = add(fmt::format("PENDING: WorkItem {:016x} Routine {} ({:016x}) Parameter {:016x}",
                                   item->address.value(), routine.empty() ? "?" : routine,
                                   item->routine.value(), item->parameter.value()));
      line["item"] = item->address;
    }
    if (q.queue.entries.size() > kMostItems)
      add(fmt::format("... and {} more", q.queue.entries.size() - kMostItems));
    if (!q.queue.walk.complete()) add(fmt::format("*** the list is not whole: {}", q.queue.walk.how()));
  }
  if (n.get("lines").empty()) add("No thread of the System process is bound to a queue.");
  return n;
}

}  // namespace

extern const DebuggerCommand exqueue_debugger_command;
const DebuggerCommand exqueue_debugger_command{.names = {"!exqueue"},
                                               .usage = "!exqueue",
                                               .help = "work queues, their workers, what is queued",
                                               .run = run};

}  // namespace unhang::app
