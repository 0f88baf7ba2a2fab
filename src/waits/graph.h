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
  u64 longest_ms = 0;                      // as held_up_ms
  Confidence weakest = Confidence::exact;  // of the edges on the way
  // Of them: those that wait in a way that ends soon by design, and the longest such wait.
  size_t impatient = 0;
  u64 impatient_ms = 0;
};

// Waits that last for hours by design: for a thread or process to end, for an answer, for another program's
// mutex, for a synchronous pipe that another thread reads. Waiting long in one of these alone says nothing.
bool is_patient(std::string_view kind);

class Graph {
 public:
  // named: threads that the user says hang; their waits for mutexes and answers are not patient.
  explicit Graph(const World& world, const std::vector<VirtAddr>& named = {});

  // Edges out of a thread that lead to another thread.
  std::vector<const Edge*> out(VirtAddr thread) const;
  // What a thread holds that others wait for.
  std::vector<Held> held_by(VirtAddr thread) const;
  Behind behind(VirtAddr thread) const;
  // For how long a thread may have been held up: its own wait; of a wait for an ERESOURCE, which begins anew
  // every four seconds (Microsoft, registry value ResourceTimeoutCount: four-second units), that of the
  // owner, who has not given it back for so long.
  u64 held_up_ms(VirtAddr thread) const;
  // Whether this wait may last for hours by design: of a patient kind, and nothing speaks against it.
  bool is_patient(const Edge& edge) const;
  // These threads and all that wait behind them, each once, in ascending order.
  std::vector<VirtAddr> with_behind(std::vector<VirtAddr> threads) const;
  // Threads that others wait for and that wait for no other thread themselves.
  const std::vector<VirtAddr>& heads() const { return heads_; }
  // Cycles: each a list of threads, every one waiting for the next, the last for the first.
  const std::vector<std::vector<VirtAddr>>& cycles() const { return cycles_; }

 private:
  void find_cycles();
  void find_ages();
  void find_crowds(const std::vector<VirtAddr>& named);
  bool closes(const Edge& edge) const;
  u64 own_wait_ms(VirtAddr thread) const;

  const World& world_;
  std::unordered_map<VirtAddr, std::vector<const Edge*>> out_, in_;
  std::unordered_map<VirtAddr, u64> ages_;     // of threads held up for longer than their own wait
  std::unordered_set<const Edge*> impatient_;  // waits of a patient kind that are none
  std::vector<VirtAddr> heads_;
  std::vector<std::vector<VirtAddr>> cycles_;
};

}  // namespace unhang::waits
