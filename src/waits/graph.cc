#include "waits/graph.h"

#include <algorithm>

#include "waits/logon.h"

namespace unhang::waits {

namespace {

// One instance of a program may wait for another one's mutex for hours; several that queue for it need it,
// two when the owner works.
constexpr size_t kCrowd = 3;
// Processes of logon do not wait for long for answers and mutexes of one and the same other process, nor for
// those of a thread that works.
constexpr size_t kLogonCrowd = 2;
constexpr u64 kFeltMs = 5000;
// How long a wait for a resource can show to last, and some ticks; the first round is shorter. Who shows less
// than that may just have come.
constexpr u64 kRoundMs = 4100, kFirstRoundMs = 500;

}  // namespace

bool is_patient(std::string_view kind) {
  return kind == "Thread" || kind == "ProcessObject" || kind == "Mutant" || kind == "ALPC" ||
         kind == "event" || kind == "work item" || kind == "file object lock";
}

bool Graph::is_patient(const Edge& edge) const {
  return waits::is_patient(edge.kind) && !impatient_.contains(&edge);
}

Graph::Graph(const World& world, const std::vector<VirtAddr>& named) : world_(world) {
  for (const Edge& e : world.edges) {
    if (e.to.is_null()) continue;
    out_[e.from].push_back(&e);
    in_[e.to].push_back(&e);
  }
  for (const auto& [to, edges] : in_)
    if (!out_.contains(to)) heads_.push_back(to);
  std::sort(heads_.begin(), heads_.end());
  find_ages();
  find_crowds(named);
  find_cycles();
}

u64 Graph::own_wait_ms(VirtAddr thread) const {
  const ThreadNode* t = world_.thread(thread);
  return t == nullptr ? 0 : t->thread.waited_ms.value_or(0);
}

u64 Graph::held_up_ms(VirtAddr thread) const {
  const auto it = ages_.find(thread);
  return it == ages_.end() ? own_wait_ms(thread) : it->second;
}

// From the longest waits on: whoever is reached first is reached with the longest.
void Graph::find_ages() {
  std::vector<VirtAddr> owners;
  for (const auto& [to, edges] : in_) owners.push_back(to);
  std::sort(owners.begin(), owners.end(), [&](VirtAddr a, VirtAddr b) {
    const u64 x = own_wait_ms(a), y = own_wait_ms(b);
    return x != y ? x > y : a < b;
  });
  for (const VirtAddr owner : owners) {
    const u64 age = held_up_ms(owner);
    if (age <= kRoundMs) break;
    std::vector<VirtAddr> todo{owner};
    while (!todo.empty()) {
      const auto it = in_.find(todo.back());
      todo.pop_back();
      if (it == in_.end()) continue;
      for (const Edge* e : it->second)
        if (std::string_view(e->kind) == "ERESOURCE" && e->confidence < Confidence::heuristic &&
            own_wait_ms(e->from) >= kFirstRoundMs && own_wait_ms(e->from) <= kRoundMs &&
            held_up_ms(e->from) < age) {
          ages_[e->from] = age;
          todo.push_back(e->from);
        }
    }
  }
}

// Waits for an answer or a mutex, which may last for hours by design, and do not here.
void Graph::find_crowds(const std::vector<VirtAddr>& named) {
  std::unordered_map<VirtAddr, size_t> mutant_waiters;
  // By the process that must answer: which processes of logon wait for it.
  std::unordered_map<VirtAddr, std::unordered_set<size_t>> logon_behind;
  const auto at_logon = [&](const Edge& e) {
    const ThreadNode* from = world_.thread(e.from);
    const ProcessNode* p = from == nullptr ? nullptr : world_.process_of(*from);
    return p != nullptr && is_on_logon_path(p->process.name) && own_wait_ms(e.from) >= kFeltMs;
  };
  const auto of_somebody = [](const Edge& e) {
    const std::string_view kind = e.kind;
    return kind == "Mutant" || kind == "ALPC";
  };
  const auto process_of = [&](VirtAddr thread) {
    const ThreadNode* t = world_.thread(thread);
    return t == nullptr ? VirtAddr() : t->thread.process;
  };
  for (const auto& [to, edges] : in_)
    for (const Edge* e : edges) {
      if (std::string_view(e->kind) == "Mutant") mutant_waiters[e->object]++;
      const VirtAddr whose = process_of(to);
      if (of_somebody(*e) && at_logon(*e) && !whose.is_null() && whose != process_of(e->from))
        logon_behind[process_of(to)].insert(world_.thread(e->from)->process);
    }
  for (const auto& [to, edges] : in_) {
    const ThreadNode* owner = world_.thread(to);
    for (const Edge* e : edges) {
      if (!of_somebody(*e)) continue;
      const bool runs = owner != nullptr && owner->on_cpu();
      if (mutant_waiters[e->object] >= (runs ? kCrowd - 1 : kCrowd) ||
          std::ranges::find(named, e->from) != named.end() ||
          (at_logon(*e) && (runs || logon_behind[process_of(to)].size() >= kLogonCrowd)))
        impatient_.insert(e);
    }
  }
}

std::vector<const Edge*> Graph::out(VirtAddr thread) const {
  const auto it = out_.find(thread);
  return it == out_.end() ? std::vector<const Edge*>() : it->second;
}

std::vector<Held> Graph::held_by(VirtAddr thread) const {
  std::vector<Held> held;
  const auto it = in_.find(thread);
  if (it == in_.end()) return held;
  for (const Edge* e : it->second) {
    auto h = std::find_if(held.begin(), held.end(), [&](const Held& x) { return x.object == e->object; });
    if (h == held.end()) h = held.insert(held.end(), {e->object, e->kind, {}});
    h->edges.push_back(e);
  }
  return held;
}

Behind Graph::behind(VirtAddr thread) const {
  Behind b;
  std::unordered_set<VirtAddr> seen{thread};
  std::vector<VirtAddr> todo{thread};
  while (!todo.empty()) {
    const VirtAddr at = todo.back();
    todo.pop_back();
    const auto it = in_.find(at);
    if (it == in_.end()) continue;
    for (const Edge* e : it->second) {
      b.weakest = weaker(b.weakest, e->confidence);
      if (!seen.insert(e->from).second) continue;
      b.threads.push_back(e->from);
      const u64 waited = held_up_ms(e->from);
      b.longest_ms = std::max(b.longest_ms, waited);
      if (!is_patient(*e)) {
        b.impatient++;
        b.impatient_ms = std::max(b.impatient_ms, waited);
      }
      todo.push_back(e->from);
    }
  }
  return b;
}

std::vector<VirtAddr> Graph::with_behind(std::vector<VirtAddr> threads) const {
  std::unordered_set<VirtAddr> seen(threads.begin(), threads.end());
  std::vector<VirtAddr> todo(seen.begin(), seen.end());
  while (!todo.empty()) {
    const auto it = in_.find(todo.back());
    todo.pop_back();
    if (it == in_.end()) continue;
    for (const Edge* e : it->second)
      if (seen.insert(e->from).second) todo.push_back(e->from);
  }
  threads.assign(seen.begin(), seen.end());
  std::sort(threads.begin(), threads.end());
  return threads;
}

// Whether an edge can be part of a cycle. Of several threads any of which ends the wait, every one must wait
// for the waiter in turn.
bool Graph::closes(const Edge& edge) const {
  if (!edge.any_of) return true;
  const auto reaches = [&](VirtAddr start) {
    std::unordered_set<VirtAddr> seen{start};
    std::vector<VirtAddr> todo{start};
    while (!todo.empty()) {
      const VirtAddr at = todo.back();
      todo.pop_back();
      if (at == edge.from) return true;
      const auto it = out_.find(at);
      if (it == out_.end()) continue;
      for (const Edge* e : it->second)
        if (seen.insert(e->to).second) todo.push_back(e->to);
    }
    return false;
  };
  for (const Edge* e : out_.at(edge.from))
    if (e->object == edge.object && !reaches(e->to)) return false;
  return true;
}

// One cycle for each strongly connected part of the graph, by an iterative depth-first search: a thread that
// is met again while it is on the path closes a cycle.
void Graph::find_cycles() {
  enum class Mark : u8 { fresh, on_path, done };
  std::unordered_map<VirtAddr, Mark> marks;
  std::vector<VirtAddr> starts;
  for (const auto& [from, edges] : out_) starts.push_back(from);
  std::sort(starts.begin(), starts.end());
  struct Level {
    VirtAddr thread;
    size_t next = 0;
  };
  for (const VirtAddr start : starts) {
    if (marks[start] != Mark::fresh) continue;
    std::vector<Level> path{{start}};
    marks[start] = Mark::on_path;
    while (!path.empty()) {
      Level& level = path.back();
      const auto it = out_.find(level.thread);
      if (it == out_.end() || level.next >= it->second.size()) {
        marks[level.thread] = Mark::done;
        path.pop_back();
        continue;
      }
      const Edge& edge = *it->second[level.next++];
      if (!closes(edge)) continue;
      const VirtAddr to = edge.to;
      Mark& mark = marks[to];
      if (mark == Mark::on_path) {
        std::vector<VirtAddr> cycle;
        auto first = std::find_if(path.begin(), path.end(), [&](const Level& l) { return l.thread == to; });
        for (; first != path.end(); ++first) cycle.push_back(first->thread);
        cycles_.push_back(std::move(cycle));
      } else if (mark == Mark::fresh) {
        mark = Mark::on_path;
        path.push_back({to});
      }
    }
  }
}

}  // namespace unhang::waits
