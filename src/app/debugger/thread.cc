// !thread [address [flags]].
#include "app/cid.h"
#include "app/command.h"
#include "app/expression.h"
#include "app/views/view.h"

namespace unhang::app {

namespace {

Result<Node> show(Session& session, const std::vector<std::string>& args) {
  std::vector<std::string> words;
  for (const std::string& a : args)
    if (a != "-p" && a != "-t") words.push_back(a);
  const VirtAddr va =
      words.empty() || words[0] == "-1" ? session.current_thread() : TRY(thread_of(session, words[0]));
  // 2: waits, 4: stack (with 2), 0x10: user part as well, which we always show.
  const u64 flags = words.size() > 1 ? TRY(evaluate(session, words[1])).value() : 6;
  const nt::Thread t = TRY(nt::read_thread(session.target(), va));
  return thread_node(session, t, {.waits = (flags & 2) != 0, .stack = (flags & 6) == 6});
}

}  // namespace

extern const DebuggerCommand thread_debugger_command;
const DebuggerCommand thread_debugger_command{.names = {"!thread"},
                                              .usage = "!thread [ADDRESS|TID [FLAGS]]",
                                              .help = "a thread: state, waits, IRPs, stack",
                                              .run = show};

}  // namespace unhang::app
