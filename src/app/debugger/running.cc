// !running [-i] [-t]: what the processors do.
#include "app/command.h"
#include "app/views/view.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  bool idle_too = false, stacks = false;
  for (const std::string& a : args) {
    idle_too |= a.starts_with('-') && a.find('i') != a.npos;
    stacks |= a.starts_with('-') && a.find('t') != a.npos;
  }
  if (session.target().cpus().empty())
    return fail(Error{.why = Why::no_symbol,
                      .detail = "no processor is known: neither registers nor KiProcessorBlock"});
  Node n = Node::shaped("running");
  u64 all = 0, idle = 0;
  n["cpus"] = Node::list();
  for (const nt::Cpu& cpu : session.target().cpus()) {
    if (cpu.number < 64) all |= u64{1} << cpu.number;
    const auto t = nt::read_thread(session.target(), cpu.current_thread);
    const bool is_idle = cpu.current_thread == cpu.idle_thread || (t && t->pid == 0);
    if (is_idle && cpu.number < 64) idle |= u64{1} << cpu.number;
    if (is_idle && !idle_too) continue;
    Node c = Node::map();
    c["number"] = cpu.number;
    c["kprcb"] = cpu.kprcb;
    c["thread"] = cpu.current_thread;
    c["next"] = cpu.next_thread;
    c["idle_thread"] = cpu.idle_thread;
    c["idle"] = is_idle;
    c["priority"] = t ? Node(t->priority) : Node();
    const auto p = t ? nt::read_process(session.target(), t->process)
                     : Result<nt::Process>(fail(Why::not_present, nullptr));
    c["what"] = is_idle ? std::string("idle") : p ? p->name : std::string();
    c["registers_from"] = cpu.state_from;
    if (stacks && t) {
      const stack::ThreadStack s = session.stacks().make(*t);
      c["stack"] = stack_node(s);
      c["stack_end"] = s.user_end.empty() ? s.kernel_end : s.user_end;
    }
    n["cpus"].add(std::move(c));
  }
  n["processors"] = VirtAddr(all);
  n["idle"] = VirtAddr(idle);
  return n;
}

}  // namespace

extern const DebuggerCommand running_debugger_command;
const DebuggerCommand running_debugger_command{
    .names = {"!running"},
    .usage = "!running [-i] [-t]",
    .help = "threads on the processors (-i idle ones too, -t stacks)",
    .run = run};

}  // namespace unhang::app
