// The wait graph between threads: cycles, who waits behind whom, heads of chains.
#pragma once

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "waits/world.h"

namespace unhang::waits {

// Edges from waiters on one object to one owner.
struct Held {
  VirtAddr object{};
  const char* kind = "";
  std::vector<const Edge*> edges;
};

// The threads that wait, directly or through others, for one thread.
struct Behind {
  std::vector<VirtAddr> threads;
  u64 longest_ms = 0;
  Confidence weakest = Confidence::exact;  // of the edges on the way
  // Of them: those that wait in a way that ends soon by design, and the longest such wait.
  size_t impatient = 0;
  u64 impatient_ms = 0;
};

// Waits that last for hours by design: for a thread or process to end, for an answer, for another program's
// mutex. Waiting long in one of these alone says nothing.
bool is_patient(std::string_view kind);

class Graph {
 public:
  explicit Graph(const World& world);

  // Edges out of a thread that lead to another thread.
  std::vector<const Edge*> out(VirtAddr thread) const;
  // What a thread holds that others wait for.
  std::vector<Held> held_by(VirtAddr thread) const;
  Behind behind(VirtAddr thread) const;
  // These threads and all that wait behind them, each once, in ascending order.
  std::vector<VirtAddr> with_behind(std::vector<VirtAddr> threads) const;
  // Threads that others wait for and that wait for no other thread themselves.
  const std::vector<VirtAddr>& heads() const { return heads_; }
  // Cycles: each a list of threads, every one waiting for the next, the last for the first.
  const std::vector<std::vector<VirtAddr>>& cycles() const { return cycles_; }

 private:
  void find_cycles();
  bool closes(const Edge& edge) const;

  const World& world_;
  std::unordered_map<VirtAddr, std::vector<const Edge*>> out_, in_;
  std::unordered_set<VirtAddr> crowded_;  // mutants that several threads queue for
  std::vector<VirtAddr> heads_;
  std::vector<std::vector<VirtAddr>> cycles_;
};

}  // namespace unhang::waits
