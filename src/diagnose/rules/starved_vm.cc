// The machine itself does not run: its processors are idle, yet timers that are long due have not fired, or
// threads are ready and nobody runs them. Clock interrupts do not arrive, or the virtual processors get no
// time from the host.
#include <algorithm>

#include "base/format.h"
#include "diagnose/rule.h"
#include "nt/objects/dispatcher.h"
#include "nt/objects/thread.h"
#include "waits/spin.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kHundredNsPerMs = 10'000;
constexpr u64 kOverdueMs = 5000, kReadyMs = 5000;
constexpr size_t kSeveral = 3;

// How long the timer of a thread's own time-out or sleep is overdue.
std::optional<u64> overdue_ms(const World& world, const ThreadNode& t) {
  const auto timer = nt::Object(world.target(), t.thread.address).address(nt::KTHREAD::Timer);
  if (!timer || world.clock().interrupt_time == 0) return std::nullopt;
  // Only a timer that the thread waits on: the others are left over from earlier waits.
  const bool waits_on_it = std::any_of(t.thread.wait_blocks.begin(), t.thread.wait_blocks.end(),
                                       [&](const nt::WaitBlock& b) { return b.object == *timer; });
  if (!waits_on_it) return std::nullopt;
  const auto d = nt::read_dispatcher(world.target(), *timer);
  if (!d || d->signal_state != 0 || d->due_time == 0 || d->due_time > world.clock().interrupt_time)
    return std::nullopt;
  return (world.clock().interrupt_time - d->due_time) / kHundredNsPerMs;
}

void find(Context& c, std::vector<Finding>& findings) {
  const World& w = c.world;
  if (w.target().cpus().empty()) return;
  bool all_idle = true;
  size_t halted = 0;
  for (const nt::Cpu& cpu : w.target().cpus()) {
    const ThreadNode* t = w.thread(cpu.current_thread);
    all_idle &= t != nullptr && t->idle_thread && !waits::in_deferred_procedure(w, *t);
    if (cpu.state && cpu.state->halted.value_or(false)) halted++;
  }
  if (!all_idle) return;
  std::vector<VirtAddr> late, ready;
  u64 longest = 0;
  for (const ThreadNode& t : w.threads) {
    if (t.idle_thread) continue;
    if (t.waiting()) {
      if (const auto ms = overdue_ms(w, t); ms && *ms >= kOverdueMs) {
        late.push_back(t.thread.address);
        longest = std::max(longest, *ms);
      }
      continue;
    }
    const bool runnable =
        t.thread.state == nt::ThreadState::ready || t.thread.state == nt::ThreadState::standby;
    if (runnable && t.thread.ticks && w.clock().ms(*t.thread.ticks) >= kReadyMs) {
      ready.push_back(t.thread.address);
      longest = std::max(longest, w.clock().ms(*t.thread.ticks));
    }
  }
  if (late.size() < kSeveral && ready.empty()) return;
  std::vector<VirtAddr> suffering = late;
  suffering.insert(suffering.end(), ready.begin(), ready.end());
  Finding f{.rule = "starved-vm", .verdict = "starved-vm", .confidence = Confidence::heuristic};
  f.title = fmt::format(
      "the virtual machine does not run: all {} processors are idle, but {}{}{}", w.target().cpus().size(),
      late.empty()
          ? ""
          : fmt::format("{} due for up to {} and have not fired",
                        counted(late.size(), "timer has been", "timers have been"), duration(longest)),
      late.empty() || ready.empty() ? "" : ", and ",
      ready.empty() ? ""
                    : fmt::format("{} ready and not run", counted(ready.size(), "thread is", "threads are")));
  if (halted == w.target().cpus().size())
    f.evidence.push_back({.text = "every virtual processor is halted (the dump records it)",
                          .confidence = Confidence::exact,
                          .reads = {},
                          .check = "!running -i"});
  constexpr size_t kMostShown = 5;
  for (size_t i = 0; i < late.size() && i < kMostShown; i++)
    f.evidence.push_back(
        c.about_thread(late[i],
                       fmt::format("the timer that {} waits on was due {} ago", c.who(late[i]),
                                   duration(*overdue_ms(w, *w.thread(late[i])))),
                       Confidence::derived));
  for (size_t i = 0; i < ready.size() && i < kMostShown; i++)
    f.evidence.push_back(
        c.about_thread(ready[i],
                       fmt::format("{} has been ready for {}", c.who(ready[i]),
                                   duration(w.clock().ms(*w.thread(ready[i])->thread.ticks))),
                       Confidence::derived));
  f.longest_ms = longest;
  f.advice = {
      "Look at the host, not at the guest: is the domain paused (`virsh domstate --reason`), are its vCPU "
      "threads starved (steal time, cgroup limits, an overcommitted host)?",
      "A guest that was saved, migrated or snapshotted and did not come back right shows this, and so does a "
      "clock source that stopped (`virsh qemu-monitor-command DOMAIN --hmp 'info status'`).",
      "Two dumps ten seconds apart tell whether its clock moves at all: `unhang diff`."};
  f.score = 25 + c.weight(suffering);
  f.waiting = std::move(suffering);
  findings.push_back(std::move(f));
}

}  // namespace

extern const Rule starved_vm_rule;
const Rule starved_vm_rule{.name = "starved-vm", .find = find};

}  // namespace unhang::diagnose
