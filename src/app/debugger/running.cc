// !running [-i] [-t]: what the processors do.
#include "app/command.h"
#include "app/views/view.h"
#include "nt/objects/queued_lock.h"

namespace unhang::app {

namespace {

// One letter for each of the first 16 queued spin locks: '.' no part in it, O owner, W waits.
std::string queued_locks_of(const std::vector<nt::NumberedLock>& locks, u32 cpu) {
  constexpr size_t kShown = 16;
  std::string s;
  for (size_t i = 0; i < kShown && i < locks.size(); i++) {
    const std::vector<u32>& waiters = locks[i].waiters;
    const bool waits = std::find(waiters.begin(), waiters.end(), cpu) != waiters.end();
    s += locks[i].owner == cpu ? 'O' : waits ? 'W' : '.';
  }
  return s;
}

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
  const auto locks = nt::read_numbered_locks(session.target());
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
    c["queued_locks"] = locks ? Node(queued_locks_of(*locks, cpu.number)) : Node();
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
