// !stacks [0|1|2] [filter]: one line a thread, grouped by process, with the function that it waits in.
#include <algorithm>

#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

// The first frame below the scheduler and the wait functions: what asked for the wait. Without symbols the
// scheduler's have no names, and the wait functions, which are exported, do.
std::string blocker(const stack::ThreadStack& s) {
  static constexpr std::string_view kWaiting[] = {"nt!KiSwapContext",
                                                  "nt!KiSwapThread",
                                                  "nt!KiCommitThreadWait",
                                                  "nt!KeWaitForSingleObject",
                                                  "nt!KeWaitForMultipleObjects",
                                                  "nt!KeDelayExecutionThread",
                                                  "nt!KeRemoveQueue",
                                                  "nt!KeRemoveQueueEx",
                                                  "nt!KeRemovePriQueue",
                                                  "nt!KeWaitForGate",
                                                  "nt!KeWaitForAlertByThreadId"};
  if (s.symbols.empty()) return "Stack paged out or missing: " + s.kernel_end;
  constexpr size_t kInnermost = 6;
  size_t below = 0;
  for (size_t i = 0; i < s.symbols.size() && i < kInnermost; i++) {
    const std::string_view name = s.symbols[i].substr(0, s.symbols[i].find('+'));
    if (std::find(std::begin(kWaiting), std::end(kWaiting), name) != std::end(kWaiting)) below = i + 1;
  }
  return std::string(s.symbols[std::min(below, s.symbols.size() - 1)]);
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  const u64 detail = args.empty() || args[0].size() != 1 ? 0 : TRY(evaluate(session, args[0])).value();
  const std::string filter = args.size() > 1 ? args[1] : !args.empty() && args[0].size() > 1 ? args[0] : "";
  const waits::World& w = session.world();
  Node n = lines_node();
  const auto add = [&](std::string s) -> Node& { return add_line(n, std::move(s)); };
  add("Proc.Thread  .Thread            Ticks    ThreadState  Blocker");
  u64 shown = 0;
  for (const waits::ProcessNode& p : w.processes) {
    bool head = false;
    for (const size_t i : p.threads) {
      const waits::ThreadNode& t = w.threads[i];
      // 0 hides threads whose stack is not there; 1 and 2 show them; 2 adds the whole stack.
      if (detail == 0 && t.stack.frames.empty()) continue;
      bool match = filter.empty();
      for (std::string_view s : t.stack.symbols) match |= s.find(filter) != s.npos;
      if (!match) continue;
      if (!head)
        add(fmt::format("                            [{:016x} {}]", p.process.address.value(),
                        p.process.name));
      head = true;
      shown++;
      const char* state = t.waiting() ? "Blocked" : nt::name(t.thread.state).data();
      Node& line =
          add(fmt::format("{:>4x}.{:06x}  {:016x}  {:7x}  {:<11}  {}", t.thread.pid, t.thread.tid,
                          t.thread.address.value(), t.thread.ticks.value_or(0), state, blocker(t.stack)));
      line["thread"] = t.thread.address;
      line["blocker"] = blocker(t.stack);
      if (detail == 2)
        for (std::string_view s : t.stack.symbols)
          add(fmt::format("                                                          {}", s));
    }
  }
  n["note"] = fmt::format("\nThreads shown: {} of {}", shown, w.threads.size());
  return n;
}

}  // namespace

extern const DebuggerCommand stacks_debugger_command;
const DebuggerCommand stacks_debugger_command{.names = {"!stacks"},
                                              .usage = "!stacks [0|1|2] [FILTER]",
                                              .help = "all threads with the function that blocks them",
                                              .run = run};

}  // namespace unhang::app
