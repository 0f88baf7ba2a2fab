// ~N: the thread on processor N becomes the current one, as in a kernel debugger.
#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  std::string word = args.empty() ? std::string() : args[0];
  if (word.ends_with('s')) word.pop_back();
  const u64 number = TRY(evaluate(session, word)).value();
  for (const nt::Cpu& cpu : session.target().cpus()) {
    if (cpu.number != number) continue;
    if (!is_kernel(cpu.current_thread))
      return fail(Error{.why = Why::unsupported, .detail = "the thread of that processor is not known"});
    session.set_thread(cpu.current_thread);
    session.set_process({});
    Node n = lines_node();
    add_line(n, fmt::format("Processor {}: implicit thread is now {}", number, cpu.current_thread));
    return n;
  }
  return fail(Error{.why = Why::unsupported, .detail = "no such processor; `!running -i` lists them"});
}

}  // namespace

extern const DebuggerCommand processor_debugger_command;
const DebuggerCommand processor_debugger_command{
    .names = {"~"}, .usage = "~N", .help = "the thread on processor N becomes the current one", .run = run};

}  // namespace unhang::app
