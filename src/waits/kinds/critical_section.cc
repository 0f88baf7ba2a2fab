// User-mode critical sections, the loader lock among them. The wait object says nothing (an event of
// Windows 7, the thread's own alert since Windows 8); the address of the section is in a register or on the
// stack of the thread that waits, and the section proves itself: locked, with waiters, owned by a thread of
// the same process.
#include "nt/objects/critical_section.h"

#include <algorithm>

#include "base/format.h"
#include "nt/objects/loader.h"
#include "waits/kind.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

bool may_wait_for_one(const ThreadNode& t) {
  if (!t.waiting()) return false;
  switch (t.thread.wait_reason) {
    case nt::kUserRequest:
    case nt::kWrKeyedEvent:
    case nt::kWrAlertByThreadId:
      return true;
    default:
      return false;
  }
}

// Whether the function names on the stack say that it waits for a critical section: ntdll exports some of
// them; without symbols there may be none.
bool says_critical_section(const ThreadNode& t) {
  return std::any_of(t.stack.symbols.begin(), t.stack.symbols.end(), [](std::string_view s) {
    return s.find("!RtlpWaitOnCriticalSection") != s.npos || s.find("!RtlpEnterCriticalSection") != s.npos ||
           s.find("!RtlEnterCriticalSection") != s.npos || s.find("!RtlpWaitForCriticalSection") != s.npos;
  });
}

struct Found {
  nt::CriticalSection section;
  const ThreadNode* owner = nullptr;
  Confidence confidence = Confidence::heuristic;
};

std::optional<Found> look_for(const World& world, const ThreadNode& t) {
  const ProcessNode& p = world.processes[t.process];
  const Source<VirtAddr>& space = world.target().space(p.process.dtb);
  std::vector<VirtAddr> tried;
  std::vector<StackWord> words = user_stack_words(world, t);
  if (t.thread.wait_reason == nt::kWrKeyedEvent)
    if (const auto key = nt::Object(world.target(), t.thread.address)[nt::ETHREAD::KeyedWaitValue])
      words.insert(words.begin(), {VirtAddr(), VirtAddr(key->value() & ~u64{1})});
  const bool named = says_critical_section(t);
  for (const StackWord& w : words) {
    constexpr u64 kLowest = 0x10000;
    if (is_kernel(w.value) || w.value.value() < kLowest || w.value.value() % 8 != 0) continue;
    if (std::find(tried.begin(), tried.end(), w.value) != tried.end()) continue;
    tried.push_back(w.value);
    const auto c = nt::read_critical_section(world.target(), space, w.value);
    // A thread that waits is counted as a waiter.
    if (!c || !c->plausible() || !c->locked() || c->waiters() == 0 || c->owner_tid == t.thread.tid) continue;
    const ThreadNode* owner = world.thread_by_id(t.process, c->owner_tid);
    if (owner == nullptr && !named) continue;
    const Confidence confidence = c->debug_agrees || named ? Confidence::derived : Confidence::heuristic;
    return Found{*c, owner, confidence};
  }
  return std::nullopt;
}

std::string name_of(const World& world, const ProcessNode& p, VirtAddr section) {
  const nt::Object peb(world.target(), p.process.peb, world.target().space(p.process.dtb));
  if (!p.process.peb.is_null()) {
    if (peb.value_or(nt::PEB::LoaderLock, {}) == section)
      return fmt::format("loader lock of {} ({})", p.process.name, p.process.pid);
    if (peb.value_or(nt::PEB::FastPebLock, {}) == section)
      return fmt::format("PEB lock of {} ({})", p.process.name, p.process.pid);
  }
  return fmt::format("in {} ({})", p.process.name, p.process.pid);
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!may_wait_for_one(t) || t.process >= world.processes.size()) continue;
    const auto found = look_for(world, t);
    if (!found) continue;
    const nt::CriticalSection& c = found->section;
    const ProcessNode& p = world.processes[t.process];
    Lock fresh{.address = c.address,
               .process = p.process.address,
               .kind = "critical section",
               .mode = "exclusive",
               .contention = c.contention,
               .confidence = found->confidence};
    fresh.name = name_of(world, p, c.address);
    Edge edge{.from = t.thread.address,
              .kind = "critical section",
              .object = c.address,
              .confidence = found->confidence};
    if (found->owner != nullptr) {
      edge.to = found->owner->thread.address;
      edge.note = fmt::format("OwningThread {:#x} of a section whose address the waiter has on its stack",
                              c.owner_tid);
      fresh.owners.push_back({.thread = edge.to,
                              .count = static_cast<u32>(c.recursion_count),
                              .alive = !found->owner->thread.terminated(),
                              .confidence = found->confidence});
    } else {
      // The thread has ended without leaving it, and is on no list any more.
      edge.note =
          fmt::format("its owner, thread id {:#x}, is no thread of the process any more", c.owner_tid);
      fresh.owners.push_back({.tid = c.owner_tid, .alive = false, .confidence = found->confidence});
    }
    Lock& lock = world.add_lock(std::move(fresh));
    lock.waiters.push_back(
        {.thread = t.thread.address, .access = "exclusive", .waited_ms = t.thread.waited_ms});
    world.add_wait(t,
                   {.object = t.thread.wait_blocks.empty() ? c.address : t.thread.wait_blocks.front().object,
                    .kind = "critical section",
                    .nature = WaitNature::lock,
                    .detail = fmt::format("critical section {} {}", c.address, lock.name),
                    .confidence = found->confidence});
    world.add_edge(std::move(edge));
  }
}

}  // namespace

extern const WaitKind critical_section_kind;
const WaitKind critical_section_kind{.name = "critical section", .order = 25, .find = find};

}  // namespace unhang::waits
