// unhang diff: two dumps of one machine, stuck or slow.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "app/command.h"
#include "app/views/view.h"
#include "base/format.h"
#include "diagnose/difference.h"

namespace unhang::app {

namespace {

struct Options {
  CommonOptions common;
  std::string second;
};

Node thread_node(const waits::World& w, const diagnose::ThreadChange& c) {
  Node n = Node::map();
  n["thread"] = c.thread;
  n["who"] = w.who(c.thread);
  const waits::ThreadNode* t = w.thread(c.thread);
  // The lock or the request rather than what it signals.
  const auto edge =
      std::find_if(w.edges.begin(), w.edges.end(), [&](const waits::Edge& e) { return e.from == c.thread; });
  if (edge != w.edges.end()) {
    const waits::Lock* lock = w.lock(edge->object, c.thread);
    n["wait"] = edge->kind;
    n["object"] = edge->object;
    n["name"] = lock == nullptr           ? Node()
                : !lock->protects.empty() ? Node(lock->protects.front())
                : lock->name.empty()      ? Node()
                                          : Node(lock->name);
    n["owner"] = edge->to.is_null() ? Node() : Node(w.who(edge->to));
  } else {
    n["wait"] = t == nullptr || t->waits.empty() ? Node() : Node(t->waits.front().kind);
    n["object"] = t == nullptr || t->waits.empty() ? Node() : Node(t->waits.front().object);
  }
  n["waited_ms"] = t != nullptr && t->thread.waited_ms ? Node(*t->thread.waited_ms) : Node();
  n["context_switches"] = c.switches;
  n["cpu_ms"] = c.cpu_ms;
  n["same_stack"] = c.same_stack;
  n["same_wait"] = c.same_wait;
  n["waiting_threads"] = u64{c.waiting};
  return n;
}

Node owners_node(const waits::World& w, const std::vector<VirtAddr>& owners) {
  Node list = Node::list();
  for (const VirtAddr t : owners) list.add(w.who(t));
  return list;
}

Node difference_node(const waits::World& before, const waits::World& after, const diagnose::Difference& d) {
  Node n = Node::shaped("difference");
  n["verdict"] = d.verdict;
  n["summary"] = d.summary;
  n["elapsed_ms"] = d.elapsed_ms;
  n["threads"]["in_both"] = u64{d.common};
  n["threads"]["ended"] = u64{d.ended};
  n["threads"]["started"] = u64{d.started};
  n["stuck"] = Node::list();
  for (const auto& c : d.stuck) n["stuck"].add(thread_node(after, c));
  n["busy"] = Node::list();
  for (const auto& c : d.busy) n["busy"].add(thread_node(after, c));
  n["locks"] = Node::list();
  for (const auto& l : d.locks) {
    Node lock = Node::map();
    lock["address"] = l.address;
    lock["kind"] = l.kind;
    lock["name"] = l.name;
    lock["owners_before"] = owners_node(before, l.owners_before);
    lock["owners_after"] = owners_node(after, l.owners_after);
    lock["same_owners"] = l.same_owners;
    lock["contention"] = l.contention;
    lock["waiters_before"] = u64{l.waiters_before};
    lock["waiters_after"] = u64{l.waiters_after};
    n["locks"].add(std::move(lock));
  }
  n["gaps"] = gaps_node(d.gaps);
  return n;
}

int run(const Options& o) {
  int status = kDone;
  const auto first = open_session(o.common, status);
  if (!first) return status;
  CommonOptions second = o.common;
  second.dump = o.second;
  const auto later = open_session(second, status);
  if (!later) return status;
  const auto d = diagnose::difference(first->world(), later->world());
  if (!d) {
    complain(fmt::format("{} and {}: {}", o.common.dump, o.second, text(d.error())));
    return kUserError;
  }
  status = output(difference_node(first->world(), later->world(), *d), o.common);
  if (status != kDone) return status;
  return d->verdict == "stuck" || d->verdict == "slow" ? kHangFound : kDone;
}

void set_up(CLI::App& app, int& status) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("SECOND", o->second, "a dump of the same machine, taken later")->required();
  app.callback([o, &status] { status = run(*o); });
}

}  // namespace

extern const Command diff_command;
const Command diff_command{.name = "diff",
                           .help = "compare two dumps of one machine: what is stuck, what is only slow",
                           .order = 5,
                           .set_up = set_up};

}  // namespace unhang::app
