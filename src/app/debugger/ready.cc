// !ready: threads that could run and do not.
#include <algorithm>

#include "app/command.h"
#include "app/lines.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>&) {
  const waits::World& w = session.world();
  std::vector<const waits::ThreadNode*> ready;
  for (const waits::ThreadNode& t : w.threads)
    if (t.thread.state == nt::ThreadState::ready || t.thread.state == nt::ThreadState::standby ||
        t.thread.state == nt::ThreadState::deferred_ready)
      ready.push_back(&t);
  std::stable_sort(ready.begin(), ready.end(), [](const auto* a, const auto* b) {
    return a->thread.next_processor != b->thread.next_processor
               ? a->thread.next_processor < b->thread.next_processor
               : a->thread.priority > b->thread.priority;
  });
  Node n = lines_node();
  const auto add = [&](std::string s) -> Node& { return add_line(n, std::move(s)); };
  if (ready.empty()) add("No thread is ready: every runnable thread is on a processor.");
  const waits::ThreadNode* above = nullptr;
  for (const auto* t : ready) {
    if (above == nullptr || t->thread.next_processor != above->thread.next_processor ||
        t->thread.priority != above->thread.priority)
      add(fmt::format("Processor {}: Ready Threads at priority {}", t->thread.next_processor,
                      t->thread.priority));
    above = t;
    const waits::ProcessNode* p = w.process_of(*t);
    Node& line = add(fmt::format("    THREAD {:016x}  Cid {:04x}.{:04x}  {} for {} ticks  {}",
                                 t->thread.address.value(), t->thread.pid, t->thread.tid,
                                 nt::state_word(t->thread.state), t->thread.ticks.value_or(0),
                                 p == nullptr ? "" : p->process.name));
    line["thread"] = t->thread.address;
  }
  return n;
}

}  // namespace

extern const DebuggerCommand ready_debugger_command;
const DebuggerCommand ready_debugger_command{
    .names = {"!ready"}, .usage = "!ready", .help = "threads that are ready to run", .run = run};

}  // namespace unhang::app
