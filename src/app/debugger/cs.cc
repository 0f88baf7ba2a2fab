// !cs ADDRESS: a critical section of the current process.
#include "app/command.h"
#include "app/expression.h"
#include "base/format.h"
#include "nt/objects/critical_section.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  std::string address;
  for (const std::string& a : args)
    if (!a.starts_with("-")) address = a;
  if (address.empty())
    return fail(Why::unsupported, "usage: !cs ADDRESS (choose the process with .process first)");
  const VirtAddr va = TRY(evaluate(session, address));
  const nt::CriticalSection c = TRY(nt::read_critical_section(session.target(), session.space(va), va));
  if (!c.plausible())
    return fail(Error{.why = Why::implausible,
                      .va = va,
                      .type = "_RTL_CRITICAL_SECTION",
                      .detail = "its members cannot be those of one critical section"});
  Node n = Node::shaped("lines");
  n["lines"] = Node::list();
  const auto add = [&](std::string s) {
    Node line = Node::map();
    line["text"] = std::move(s);
    n["lines"].add(std::move(line));
  };
  add(fmt::format("DebugInfo          = 0x{:016x}", c.debug_info.value()));
  add(fmt::format("Critical section   = 0x{:016x}", va.value()));
  add(c.locked() ? "LOCKED" : "NOT LOCKED");
  if (c.locked()) {
    add(fmt::format("LockCount          = 0x{:X}", c.waiters()));
    add(fmt::format("WaiterWoken        = {}", c.waiter_woken() ? "Yes" : "No"));
    add(fmt::format("OwningThread       = 0x{:016x}", c.owner_tid));
    add(fmt::format("RecursionCount     = 0x{:X}", c.recursion_count));
  }
  add(fmt::format("LockSemaphore      = 0x{:X}", c.semaphore));
  add(fmt::format("SpinCount          = 0x{:016x}", c.spin_count));
  n["address"] = va;
  n["locked"] = c.locked();
  n["owner_tid"] = c.owner_tid;
  n["waiters"] = c.waiters();
  n["recursion"] = c.recursion_count;
  return n;
}

}  // namespace

extern const DebuggerCommand cs_debugger_command;
const DebuggerCommand cs_debugger_command{.names = {"!cs"},
                                          .usage = "!cs ADDRESS",
                                          .help = "a critical section of the current process",
                                          .run = run};

}  // namespace unhang::app
