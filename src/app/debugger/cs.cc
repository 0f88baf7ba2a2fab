// !cs ADDRESS: a critical section of the current process. !cs -l: those with waiters.
#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "base/format.h"
#include "nt/objects/critical_section.h"

namespace unhang::app {

namespace {

// !cs -l walks ntdll's list of all sections; here it shows those that threads were found waiting for.
Node locked(Session& session) {
  const waits::World& w = session.world();
  Node n = lines_node();
  for (const waits::Lock& l : w.locks) {
    if (std::string_view(l.kind) != "critical section") continue;
    Node& line = add_line(
        n, fmt::format("0x{:016x}  {:<32} owner {}, {}  (.process {})", l.address.value(), l.name,
                       l.owners.empty()         ? "unknown"
                       : l.owners.front().alive ? w.who(l.owners.front().thread)
                                                : fmt::format("{:x}, which has ended", l.owners.front().tid),
                       counted(l.waiters.size(), "waiter", "waiters"), l.process));
    line["address"] = l.address;
    line["process"] = l.process;
  }
  if (n.get("lines").empty()) add_line(n, "No thread was found to wait for a critical section.");
  return n;
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.size() == 1 && args[0] == "-l") return locked(session);
  std::string address;
  for (const std::string& a : args)
    if (!a.starts_with("-")) address = a;
  if (address.empty())
    return fail(
        Why::unsupported,
        "usage: !cs ADDRESS, or !cs -l for all with waiters (choose the process with .process first)");
  const VirtAddr va = TRY(evaluate(session, address));
  auto found = nt::read_critical_section(session.target(), session.space(va), va);
  // One of 32-bit code, in a WOW64 process.
  if ((!found || !found->plausible()) && va.value() >> 32 == 0)
    if (auto narrow = nt::read_critical_section32(session.space(va), va)) found = std::move(narrow);
  const nt::CriticalSection c = TRY(std::move(found));
  if (!c.plausible())
    return fail(Error{.why = Why::implausible,
                      .va = va,
                      .type = "_RTL_CRITICAL_SECTION",
                      .detail = "its members cannot be those of one critical section"});
  Node n = lines_node();
  const auto add = [&](std::string s) -> Node& { return add_line(n, std::move(s)); };
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
const DebuggerCommand cs_debugger_command{
    .names = {"!cs"},
    .usage = "!cs ADDRESS | -l",
    .help = "a critical section of the current process; -l: all with waiters",
    .run = run};

}  // namespace unhang::app
