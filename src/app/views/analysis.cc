// The report: DESIGN section 6, documented in docs/report-schema.md.
#include "app/views/view.h"
#include "base/format.h"
#include "nt/objects/irp.h"
#include "waits/spin.h"

namespace unhang::app {

namespace {

using waits::World;

Node or_null(const std::string& s) {
  return s.empty() ? Node() : Node(s);
}

Node processes_node(const World& w) {
  Node list = Node::list();
  for (const waits::ProcessNode& p : w.processes) {
    Node n = Node::map();
    n["address"] = p.process.address;
    n["name"] = p.process.name;
    n["pid"] = p.process.pid;
    n["parent_pid"] = p.process.parent_pid;
    n["session"] = p.process.session ? Node(*p.process.session) : Node();
    n["path"] = or_null(p.process.path);
    n["command_line"] = or_null(p.process.command_line);
    n["threads"] = u64{p.threads.size()};
    n["handles"] = u64{p.handles.size()};
    n["dtb"] = VirtAddr(p.process.dtb.value());
    n["create_time"] = time_node(p.process.create_time);
    n["exited"] = p.process.exited();
    list.add(std::move(n));
  }
  return list;
}

Node cpus_node(const World& w) {
  Node list = Node::list();
  for (const nt::Cpu& cpu : w.target().cpus()) {
    const waits::ThreadNode* t = w.thread(cpu.current_thread);
    const waits::ProcessNode* p = t == nullptr ? nullptr : w.process_of(*t);
    Node n = Node::map();
    n["number"] = cpu.number;
    n["thread"] = cpu.current_thread;
    n["process"] = p == nullptr ? Node() : Node(p->process.name);
    n["pid"] = t == nullptr ? Node() : Node(t->thread.pid);
    n["tid"] = t == nullptr ? Node() : Node(t->thread.tid);
    const bool idle = t != nullptr && t->idle_thread && !waits::in_deferred_procedure(w, *t);
    n["mode"] = idle                     ? Node("idle")
                : !cpu.state             ? Node()
                : cpu.state->user_mode() ? Node("user")
                                         : Node("kernel");
    n["rip"] = cpu.state ? Node(VirtAddr(cpu.state->rip)) : Node();
    n["kpcr"] = cpu.kpcr;
    n["kprcb"] = cpu.kprcb;
    n["registers_from"] = or_null(cpu.state_from);
    n["stack"] = t == nullptr ? Node::list() : stack_node(t->stack);
    list.add(std::move(n));
  }
  return list;
}

Node locks_node(const World& w) {
  Node list = Node::list();
  for (const waits::Lock& l : w.locks) {
    Node n = Node::map();
    n["address"] = l.address;
    if (!l.process.is_null()) n["process"] = l.process;
    n["kind"] = l.kind;
    n["name"] = or_null(l.name);
    n["protects"] = Node::list();
    for (const std::string& p : l.protects) n["protects"].add(p);
    n["mode"] = or_null(l.mode);
    n["contention"] = l.contention;
    n["owners"] = Node::list();
    for (const waits::LockOwner& o : l.owners) {
      Node owner = Node::map();
      owner["thread"] = o.thread.is_null() ? Node() : Node(o.thread);
      if (o.tid != 0) owner["tid"] = o.tid;
      owner["count"] = o.count;
      owner["alive"] = o.alive;
      n["owners"].add(std::move(owner));
    }
    n["waiters"] = Node::list();
    for (const waits::LockWaiter& x : l.waiters) {
      Node waiter = Node::map();
      waiter["thread"] = x.thread;
      waiter["access"] = x.access;
      waiter["waited_ms"] = x.waited_ms ? Node(*x.waited_ms) : Node();
      n["waiters"].add(std::move(waiter));
    }
    n["confidence"] = name(l.confidence);
    list.add(std::move(n));
  }
  return list;
}

Node threads_node(const World& w) {
  Node list = Node::list();
  for (const waits::ThreadNode& t : w.threads) {
    const waits::ProcessNode* p = w.process_of(t);
    Node n = Node::map();
    n["address"] = t.thread.address;
    n["process"] = p == nullptr ? Node() : Node(p->process.name);
    n["pid"] = t.thread.pid;
    n["tid"] = t.thread.tid;
    n["state"] = nt::name(t.thread.state);
    n["wait_reason"] = t.waiting() ? Node(nt::wait_reason_name(t.thread.wait_reason)) : Node();
    n["wait_mode"] = t.waiting() ? Node(t.thread.user_mode_wait ? "UserMode" : "KernelMode") : Node();
    n["waited_ms"] = t.thread.waited_ms ? Node(*t.thread.waited_ms) : Node();
    n["ticks"] = t.thread.ticks ? Node(*t.thread.ticks) : Node();
    n["cpu"] = t.cpu ? Node(*t.cpu) : Node();
    n["idle_thread"] = t.idle_thread;
    n["waits_for"] = t.waiting() ? Node(waits::name(t.nature())) : Node();
    n["waits_on"] = Node::list();
    for (const waits::Wait& x : t.waits) {
      Node wait = Node::map();
      wait["object"] = x.object;
      wait["kind"] = x.kind;
      wait["nature"] = waits::name(x.nature);
      wait["detail"] = or_null(x.detail);
      wait["confidence"] = name(x.confidence);
      n["waits_on"].add(std::move(wait));
    }
    n["irps"] = Node::list();
    for (const size_t i : t.irps) n["irps"].add(w.irps[i].irp.address);
    n["priority"] = t.thread.priority;
    n["context_switches"] = t.thread.context_switches;
    n["kernel_time_ms"] = w.clock().ms(t.thread.kernel_ticks);
    n["user_time_ms"] = w.clock().ms(t.thread.user_ticks);
    n["name"] = or_null(t.thread.thread_name);
    n["stack"] = stack_node(t.stack);
    n["stack_from"] = or_null(t.stack.start);
    n["stack_end"] = t.stack.user_end.empty() ? t.stack.kernel_end : t.stack.user_end;
    list.add(std::move(n));
  }
  return list;
}

Node irps_node(Session& session, const World& w) {
  Node list = Node::list();
  for (const waits::IrpNode& i : w.irps) {
    Node n = Node::map();
    n["address"] = i.irp.address;
    n["thread"] = i.irp.thread;
    n["major"] = i.major;
    n["minor"] = or_null(i.minor);
    n["driver"] = or_null(i.driver);
    n["device"] = i.driver_device;
    n["device_name"] = or_null(i.device_name);
    n["file"] = or_null(i.file);
    n["file_object"] = i.file_object;
    n["stack_count"] = u32{i.irp.stack_count};
    n["current_location"] = u32{i.irp.current_location};
    n["consistent"] = i.irp.consistent;
    n["stack"] = irp_node(session, i.irp).get("stack");
    list.add(std::move(n));
  }
  return list;
}

Node graph_node(const World& w, const diagnose::Diagnosis& d) {
  Node n = Node::map();
  n["edges"] = Node::list();
  for (const waits::Edge& e : w.edges) {
    Node edge = Node::map();
    edge["from"] = e.from;
    edge["to"] = e.to.is_null() ? Node() : Node(e.to);
    edge["via"]["kind"] = e.kind;
    edge["via"]["address"] = e.object;
    edge["confidence"] = name(e.confidence);
    if (!e.note.empty()) edge["note"] = e.note;
    if (e.any_of) edge["any_of"] = true;
    for (const waits::Candidate& c : e.candidates) {
      Node candidate = Node::map();
      candidate["thread"] = c.thread;
      candidate["why"] = c.why;
      candidate["confidence"] = name(c.confidence);
      edge["candidates"].add(std::move(candidate));
    }
    n["edges"].add(std::move(edge));
  }
  n["cycles"] = Node::list();
  for (const auto& cycle : d.cycles) {
    Node c = Node::list();
    for (const VirtAddr t : cycle) c.add(t);
    n["cycles"].add(std::move(c));
  }
  return n;
}

Node thread_ref_node(const World& w, VirtAddr va) {
  Node n = Node::map();
  n["thread"] = va;
  const waits::ThreadNode* t = w.thread(va);
  if (t == nullptr) return n;
  const waits::ProcessNode* p = w.process_of(*t);
  n["process"] = p == nullptr ? Node() : Node(p->process.name);
  n["pid"] = t->thread.pid;
  n["tid"] = t->thread.tid;
  n["state"] = nt::name(t->thread.state);
  n["cpu"] = t->cpu ? Node(*t->cpu) : Node();
  n["waited_ms"] = t->thread.waited_ms ? Node(*t->thread.waited_ms) : Node();
  return n;
}

Node chain_node(const World& w, const std::vector<diagnose::ChainLink>& chain) {
  Node list = Node::list();
  for (const diagnose::ChainLink& l : chain) {
    Node n = Node::map();
    n["waiters"] = Node::list();
    for (const VirtAddr t : l.waiters) n["waiters"].add(thread_ref_node(w, t));
    n["waiting_processes"] = diagnose::processes_of(w, l.waiters);
    n["longest_ms"] = l.longest_ms;
    n["object"] = l.object;
    n["kind"] = l.kind;
    n["name"] = or_null(l.name);
    n["mode"] = or_null(l.mode);
    n["owner"] = l.owner.is_null() ? Node() : thread_ref_node(w, l.owner);
    // Of a lock that is held shared, the others do not let go either.
    const waits::Lock* lock = w.lock(l.object, l.owner);
    n["other_owners"] = u64{lock == nullptr || lock->owners.empty() ? 0 : lock->owners.size() - 1};
    n["confidence"] = name(l.confidence);
    list.add(std::move(n));
  }
  return list;
}

Node directory_node(const diagnose::Directory& d) {
  Node n = Node::map();
  const auto& c = d.contents;
  n["path"] = d.path;
  n["names"] = c.names;
  n["indexed_names"] = c.indexed_names;
  n["index_buffers"] = c.index_buffers;
  n["raw_fixups"] = c.raw_fixups;
  n["file_records"] = c.file_records;
  n["short_names"] = c.short_names;
  n["reference"] = c.reference == 0 ? Node() : Node(VirtAddr(c.reference));
  n["identified_by"] = or_null(c.how);
  n["confidence"] = name(c.confidence);
  n["patterns"] = Node::list();
  constexpr size_t kMost = 10;
  for (size_t i = 0; i < c.patterns.size() && i < kMost; i++) {
    Node p = Node::map();
    p["pattern"] = c.patterns[i].pattern;
    p["count"] = c.patterns[i].count;
    p["example"] = c.patterns[i].example;
    n["patterns"].add(std::move(p));
  }
  n["oldest_created"] = time_node(c.oldest);
  n["newest_created"] = time_node(c.newest);
  n["newest_name"] = or_null(c.newest_name);
  n["held_by"] = Node::list();
  for (const diagnose::Holder& h : d.holders) {
    Node x = Node::map();
    x["process"] = h.process;
    x["processes"] = h.processes;
    x["handles"] = h.handles;
    x["requests"] = h.requests;
    n["held_by"].add(std::move(x));
  }
  n["bytes_scanned"] = c.bytes_scanned;
  n["bytes_total"] = c.bytes_total;
  return n;
}

Node reads_node(const World& w, const std::vector<nt::ReadRecord>& reads) {
  Node list = Node::list();
  for (const nt::ReadRecord& r : reads) {
    Node n = Node::map();
    n["member"] = fmt::format("{}.{}", r.type, r.member);
    n["object"] = r.object;
    n["va"] = r.va;
    n["size"] = r.size;
    if (w.target().paging() != nullptr) {
      if (const auto m = w.target().paging()->translate(r.va)) {
        n["pa"] = VirtAddr(m->pa.value());
        if (const auto offset = w.target().physical()->file_offset(m->pa))
          n["file_offset"] = VirtAddr(*offset);
      }
    } else if (const auto offset = w.target().dump().virtual_blocks->file_offset(r.va)) {
      n["file_offset"] = VirtAddr(*offset);
    }
    list.add(std::move(n));
  }
  return list;
}

// The threads that suffer and that the chain, which is one way of many, does not show.
Node also_waiting_node(const World& w, const diagnose::Finding& f) {
  std::vector<VirtAddr> others = f.waiting;
  std::erase_if(others, [&](VirtAddr t) {
    return t == f.culprit.thread || std::any_of(f.chain.begin(), f.chain.end(), [&](const auto& l) {
             return std::find(l.waiters.begin(), l.waiters.end(), t) != l.waiters.end();
           });
  });
  if (others.empty()) return {};
  Node n = Node::map();
  n["threads"] = u64{others.size()};
  n["processes"] = diagnose::processes_of(w, others);
  return n;
}

Node findings_node(const World& w, const diagnose::Diagnosis& d) {
  Node list = Node::list();
  for (const diagnose::Finding& f : d.findings) {
    Node n = Node::map();
    n["rule"] = f.rule;
    n["class"] = f.verdict;
    n["title"] = f.title;
    n["confidence"] = name(f.confidence);
    n["waiting_threads"] = u64{f.waiting.size()};
    n["longest_ms"] = f.longest_ms;
    n["score"] = f.score;
    Node c = Node::map();
    c["thread"] = f.culprit.thread.is_null() ? Node() : Node(f.culprit.thread);
    c["process"] = or_null(f.culprit.process);
    c["pid"] = f.culprit.pid ? Node(*f.culprit.pid) : Node();
    c["tid"] = f.culprit.tid ? Node(*f.culprit.tid) : Node();
    c["cpu"] = f.culprit.cpu ? Node(*f.culprit.cpu) : Node();
    c["driver"] = or_null(f.culprit.driver);
    c["file"] = or_null(f.culprit.file);
    c["directory"] = or_null(f.culprit.directory);
    n["culprit"] = std::move(c);
    n["chain"] = chain_node(w, f.chain);
    n["also_waiting"] = also_waiting_node(w, f);
    n["cycles"] = Node::list();
    for (const auto& cycle : f.cycles) {
      Node threads = Node::list();
      for (const VirtAddr t : cycle) threads.add(t);
      n["cycles"].add(std::move(threads));
    }
    n["evidence"] = Node::list();
    for (const diagnose::Evidence& e : f.evidence) {
      Node x = Node::map();
      x["text"] = e.text;
      x["confidence"] = name(e.confidence);
      x["check"] = or_null(e.check);
      if (!e.reads.empty()) x["reads"] = reads_node(w, e.reads);
      n["evidence"].add(std::move(x));
    }
    n["advice"] = Node::list();
    for (const std::string& a : f.advice) n["advice"].add(a);
    if (f.directory) n["directory"] = directory_node(*f.directory);
    list.add(std::move(n));
  }
  return list;
}

Node ranking_node(const World& w, const diagnose::Diagnosis& d) {
  Node list = Node::list();
  constexpr size_t kMost = 20;
  for (size_t i = 0; i < d.ranking.size() && i < kMost; i++) {
    Node n = thread_ref_node(w, d.ranking[i].thread);
    n["waiting_threads"] = u64{d.ranking[i].waiting};
    // Without the clock nobody knows how long.
    n["longest_ms"] = w.clock().tick_count ? Node(d.ranking[i].longest_ms) : Node();
    list.add(std::move(n));
  }
  return list;
}

}  // namespace

Node analysis_node(Session& session, const diagnose::Diagnosis& d, const diagnose::Options& options) {
  const World& w = session.world();
  Node n = Node::shaped("analysis");
  n["schema"] = "unhang/1";
  n["dump"] = dump_node(w.target());
  n["target"] = target_node(w.target());
  Node verdict = Node::map();
  verdict["class"] = d.verdict.cls;
  verdict["finding"] = d.verdict.finding ? Node(u64{*d.verdict.finding}) : Node();
  verdict["summary"] = d.verdict.summary;
  verdict["confidence"] = name(d.verdict.confidence);
  n["verdict"] = std::move(verdict);
  n["findings"] = findings_node(w, d);
  n["ranking"] = ranking_node(w, d);
  n["entry_points"] = Node::list();
  for (const VirtAddr t : options.entry_threads) n["entry_points"].add(thread_ref_node(w, t));
  n["cpus"] = cpus_node(w);
  n["locks"] = locks_node(w);
  n["irps"] = irps_node(session, w);
  n["wait_graph"] = graph_node(w, d);
  n["processes"] = processes_node(w);
  n["threads"] = threads_node(w);
  n["modules"] = modules_node(w.target());
  std::vector<Gap> gaps = w.target().gaps();
  gaps.insert(gaps.end(), w.gaps.begin(), w.gaps.end());
  n["gaps"] = gaps_node(gaps);
  return n;
}

}  // namespace unhang::app
