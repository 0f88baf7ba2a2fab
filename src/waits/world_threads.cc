// The threads of a world: those of the processes' lists, of the processors, and of the table of client ids
// where a list is broken.
#include <algorithm>
#include <functional>

#include "base/format.h"
#include "waits/world.h"

namespace unhang::waits {

void World::tell_age(nt::Thread& t) const {
  t.ticks = clock_.since(t.wait_time);
  if (t.ticks && t.state == nt::ThreadState::waiting) t.waited_ms = clock_.nearest_ms(*t.ticks);
}

// The page with the clock is missing: the machine is at least as old as its latest wait. One that no other
// begins near to may be damage.
void World::take_latest_wait_for_now() {
  constexpr u32 kNear = 4000;  // ticks, a minute
  std::vector<u32> begun;
  for (const ThreadNode& t : threads)
    if (t.waiting()) begun.push_back(t.thread.wait_time);
  std::ranges::sort(begun, std::greater<>());
  for (size_t i = 0; i + 1 < begun.size(); i++) {
    if (begun[i] - begun[i + 1] > kNear) continue;
    clock_.tick_count = begun[i];
    clock_.ticks_since_boot = begun[i];
    for (ThreadNode& t : threads) tell_age(t.thread);
    return;
  }
}

bool World::add_thread(VirtAddr va, size_t process) {
  if (thread_index_.contains(va)) return true;
  auto t = nt::read_thread(target_, va);
  if (!t) {
    gaps.push_back({"thread", hex(va), text(t.error())});
    return false;
  }
  for (const Gap& g : t->gaps)
    gaps.push_back({fmt::format("{} of thread {}.{}", g.what, t->pid, t->tid), g.where, g.why, g.minor});
  if (!t->irp_walk.complete())
    gaps.push_back({fmt::format("IRP list of thread {}.{}", t->pid, t->tid), hex(va), t->irp_walk.how()});
  tell_age(*t);
  if (process == SIZE_MAX)
    for (size_t i = 0; i < processes.size(); i++)
      if (processes[i].process.address == t->process) process = i;
  thread_index_[va] = threads.size();
  if (process < processes.size()) processes[process].threads.push_back(threads.size());
  threads.push_back({.thread = std::move(*t), .process = process});
  return true;
}

void World::read_threads() {
  size_t count = target_.cpus().size();
  for (const ProcessNode& p : processes) count += p.process.threads.size();
  threads.reserve(count);
  for (size_t i = 0; i < processes.size(); i++)
    for (const VirtAddr va : std::vector<VirtAddr>(processes[i].process.threads))
      processes[i].threads_torn |= !add_thread(va, i);
  complete_threads();
  if (!clock_.tick_count) take_latest_wait_for_now();
  for (const nt::Cpu& cpu : target_.cpus()) {
    // A current thread that no list led to: its process's list is broken.
    if (!is_kernel(cpu.current_thread) || !add_thread(cpu.current_thread, SIZE_MAX)) continue;
    ThreadNode* t = thread(cpu.current_thread);
    t->cpu = cpu.number;
    t->idle_thread = cpu.current_thread == cpu.idle_thread;
  }
  for (ThreadNode& t : threads)
    if (const ProcessNode* p = process_of(t); p != nullptr && p->idle_process) t.idle_thread = true;
}

// Threads that a broken list does not lead to: the table of client ids has every thread. It is a handle table
// whose entries point to the objects themselves (WinDbg's !process and volatility's psxview read it so).
void World::complete_threads() {
  if (std::ranges::none_of(processes, &ProcessNode::threads_torn)) return;
  const auto table = target_.pointer_at("PspCidTable");
  const auto body = target_.bind(nt::OBJECT_HEADER::Body);
  if (!table || !body || !is_kernel(*table)) return;
  const nt::HandleWalk walk = objects_.handles(*table);
  size_t found = 0;
  bool all = walk.gaps.empty() && !walk.handles.empty();
  for (const nt::Handle& h : walk.handles) {
    const VirtAddr va = h.object - body->offset;
    if (thread_index_.contains(va)) continue;
    // Processes are in it too; what cannot be read may be a thread.
    const auto d = nt::read_dispatcher(target_, va);
    all &= d.has_value();
    if (!d || d->type != nt::DispatcherType::thread) continue;
    const auto t = nt::read_thread(target_, va);
    all &= t && t->gaps.empty();
    if (!nt::is_thread(target_, va)) continue;
    if (t && t->tid == h.value && add_thread(va, SIZE_MAX)) found++;
  }
  if (found != 0)
    gaps.push_back({"threads", hex(*table),
                    fmt::format("{} found in the table of client ids (PspCidTable) only",
                                counted(found, "thread was", "threads were")),
                    true});
  if (all)
    for (ProcessNode& p : processes) p.threads_torn = false;
}

ThreadNode* World::find_or_adopt(VirtAddr va) {
  if (ThreadNode* t = thread(va)) return t;
  if (!nt::is_thread(target_, va) || !add_thread(va, SIZE_MAX)) return nullptr;
  ThreadNode& t = threads.back();
  t.stack = stacks_.make(t.thread);
  read_irps_of(threads.size() - 1);
  return &threads.back();
}

bool World::alive(VirtAddr owner) const {
  if (const ThreadNode* t = thread(owner)) return !t->thread.terminated();
  if (!memory::read<u8>(target_.kernel(), owner)) return true;
  const auto t = nt::is_thread(target_, owner) ? nt::read_thread(target_, owner)
                                               : Result<nt::Thread>(fail(Error{.why = Why::implausible}));
  return t && !t->terminated();
}

}  // namespace unhang::waits
