#include "app/views/view.h"
#include "base/format.h"
#include "nt/objects/alpc.h"
#include "nt/objects/process.h"

namespace unhang::app {

namespace {

struct ProcessName {
  VirtAddr address{};
  std::string name;
};

ProcessName process_name(Session& session, VirtAddr process) {
  if (!is_kernel(process)) return {};
  const auto p = nt::read_process(session.target(), process);
  return {process, p ? p->name : std::string()};
}

// What a wait block points to, as !thread prints it.
Node wait_object_node(Session& session, const nt::WaitBlock& block) {
  Node n = Node::map();
  n["object"] = block.object;
  const auto d = nt::read_dispatcher(session.target(), block.object);
  n["kind"] = d ? nt::name(d->type) : "Unknown";
  if (!d) return n;
  n["signal_state"] = d->signal_state;
  if (d->type == nt::DispatcherType::semaphore) n["limit"] = VirtAddr(static_cast<u32>(d->limit));
  if (d->type == nt::DispatcherType::mutant) n["owner"] = d->owner_thread;
  return n;
}

Node irp_line_node(Session& session, VirtAddr va) {
  Node n = Node::map();
  n["address"] = va;
  const auto irp = nt::read_irp(session.target(), va);
  if (!irp) {
    n["error"] = text(irp.error());
    return n;
  }
  n["size"] = irp->size;
  n["flags"] = irp->flags;
  n["mdl"] = irp->mdl;
  return n;
}

void times(Session& session, const nt::Thread& t, Node& n) {
  const nt::Clock& clock = session.clock();
  n["wait_start_tick_count"] = t.wait_time;
  if (clock.tick_count) {
    const u32 ticks = *clock.tick_count - t.wait_time;
    n["ticks"] = ticks;
    n["waited_ms"] = t.state == nt::ThreadState::waiting ? Node(clock.nearest_ms(ticks)) : Node();
    n["ticks_ms"] = clock.ms(ticks);
  } else {
    n["ticks"] = Node();
    n["waited_ms"] = Node();
  }
  n["context_switches"] = t.context_switches;
  n["user_time_ms"] = clock.ms(t.user_ticks);
  n["kernel_time_ms"] = clock.ms(t.kernel_ticks);
}

}  // namespace

Node thread_line_node(Session& session, const nt::Thread& t) {
  return thread_node(session, t, {.waits = false, .stack = false});
}

Node thread_node(Session& session, const nt::Thread& t, ThreadParts parts) {
  Node n = Node::shaped("thread");
  const ProcessName owner = process_name(session, t.process);
  n["address"] = t.address;
  n["process"] = owner.name;
  n["process_address"] = t.process;
  n["pid"] = t.pid;
  n["tid"] = t.tid;
  n["state"] = nt::name(t.state);
  n["state_word"] = nt::state_word(t.state);
  const bool waiting = t.state == nt::ThreadState::waiting;
  n["wait_reason"] = waiting ? Node(nt::wait_reason_name(t.wait_reason)) : Node();
  n["wait_mode"] = waiting ? Node(t.user_mode_wait ? "UserMode" : "KernelMode") : Node();
  n["alertable"] = t.alertable;
  n["suspend_count"] = u32{t.suspend_count};
  Node cpu;
  for (const nt::Cpu& c : session.target().cpus())
    if (c.current_thread == t.address) cpu = c.number;
  n["cpu"] = std::move(cpu);
  n["next_processor"] = t.next_processor;
  n["teb"] = t.teb;
  n["win32_thread"] = t.win32_thread;
  n["priority"] = t.priority;
  n["base_priority"] = t.base_priority;
  n["priority_decrement"] = t.priority_decrement;
  n["ideal_processor"] = t.ideal_processor;
  times(session, t, n);
  if (is_kernel(t.attached_process)) {
    const ProcessName attached = process_name(session, t.attached_process);
    n["attached_process"] = attached.name;
    n["attached_process_address"] = attached.address;
  }
  n["start_address"] = t.start_address;
  n["win32_start_address"] = t.win32_start_address;
  if (parts.stack) {
    const nt::Object p(session.target(), t.process);
    const PhysAddr dtb = PhysAddr(p.value_or(nt::KPROCESS::DirectoryTableBase, 0)).page();
    const VirtAddr start = t.win32_start_address.is_null() ? t.start_address : t.win32_start_address;
    if (!start.is_null())
      n["start_symbol"] = session.stacks().symbolize(start, dtb, p.value_or(nt::EPROCESS::Peb, {}));
  }
  n["initial_stack"] = t.initial_stack;
  n["kernel_stack"] = t.kernel_stack;
  n["stack_base"] = t.stack_base;
  n["stack_limit"] = t.stack_limit;
  if (!t.thread_name.empty()) n["name"] = t.thread_name;
  if (parts.waits) {
    n["waits_on"] = Node::list();
    for (const nt::WaitBlock& b : t.wait_blocks) n["waits_on"].add(wait_object_node(session, b));
    if (waiting && t.wait_reason == nt::kWrLpcReply)
      if (const auto m = nt::awaited_message(session.target(), t.address)) {
        const auto port = nt::read_alpc_port(session.target(), m->port());
        n["alpc_message"] = m->address;
        n["alpc_port"] = m->port();
        n["alpc_port_process"] = port ? Node(port->owner_process) : Node();
      }
    n["irps"] = Node::list();
    for (const VirtAddr va : nt::irps_of_links(session.target(), t.irps))
      n["irps"].add(irp_line_node(session, va));
  }
  if (parts.stack) {
    const stack::ThreadStack s = session.stacks().make(t);
    n["stack"] = stack_node(s);
    n["stack_from"] = s.start;
    n["stack_end"] = s.user_end.empty() ? s.kernel_end : s.user_end;
  }
  n["gaps"] = gaps_node(t.gaps);
  return n;
}

}  // namespace unhang::app
