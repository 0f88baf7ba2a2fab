#include "diagnose/memory_waits.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kLongMs = 1000;

// The modified and the mapped page writer and the thread that zeroes pages wait with reason WrFreePage for
// work, on every healthy machine: that is not a wait for free pages.
bool page_writer(const Context& c, const ThreadNode& t) {
  const ProcessNode* p = c.world.process_of(t);
  return p != nullptr && p->process.pid == nt::kSystemPid &&
         (t.thread.wait_reason == nt::kFreePage || t.thread.wait_reason == nt::kWrFreePage);
}

bool waits_for_memory(const Context& c, const ThreadNode& t) {
  if (!t.waiting() || page_writer(c, t)) return false;
  switch (t.thread.wait_reason) {
    case nt::kFreePage:
    case nt::kWrFreePage:
    case nt::kPoolAllocation:
    case nt::kWrPoolAllocation:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::vector<VirtAddr> memory_waiters(const Context& c) {
  std::vector<VirtAddr> out;
  for (const ThreadNode& t : c.world.threads)
    if (waits_for_memory(c, t) && (t.thread.waited_ms.value_or(0) >= kLongMs || !c.world.clock().tick_count))
      out.push_back(t.thread.address);
  return out;
}

}  // namespace unhang::diagnose
