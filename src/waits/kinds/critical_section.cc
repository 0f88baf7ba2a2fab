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
  VirtAddr owner{};
  Confidence confidence = Confidence::heuristic;
};

// What may be the address of the section that a thread waits for, likely ones first: what the kernel was told
// (a keyed event's key; what a wait for an alert shows as its object, seen in published output, is the
// address waited on: the section or its LockSemaphore), then registers and stack.
std::vector<VirtAddr> values_of(const World& world, const ThreadNode& t, bool x86) {
  std::vector<VirtAddr> out;
  if (t.thread.wait_reason == nt::kWrKeyedEvent)
    if (const auto key = nt::Object(world.target(), t.thread.address)[nt::ETHREAD::KeyedWaitValue])
      out.push_back(VirtAddr(key->value() & ~u64{1}));
  const u64 semaphore = x86 ? 0x10 : 0x18;
  for (const nt::WaitBlock& b : t.thread.wait_blocks)
    if (!is_kernel(b.object) && b.object.value() > semaphore) {
      out.push_back(b.object);
      out.push_back(b.object - semaphore);
    }
  for (const StackWord& w : x86 ? user_stack_words32(world, t) : user_stack_words(world, t))
    out.push_back(w.value);
  return out;
}

// unreadable: set to the first value that may have been it, where its memory is not there.
std::optional<Found> look_for(const World& world, const ThreadNode& t, bool x86,
                              std::optional<Error>& unreadable) {
  const ProcessNode& p = world.processes[t.process];
  const Source<VirtAddr>& space = world.target().space(p.process.dtb);
  const bool named = says_critical_section(t);
  std::vector<VirtAddr> tried;
  for (const VirtAddr value : values_of(world, t, x86)) {
    constexpr u64 kLowest = 0x10000, kHighest = u64{1} << 47;
    if (value.value() < kLowest || value.value() >= kHighest || value.value() % (x86 ? 4 : 8) != 0) continue;
    if (std::find(tried.begin(), tried.end(), value) != tried.end()) continue;
    tried.push_back(value);
    const auto c = x86 ? nt::read_critical_section32(space, value)
                       : nt::read_critical_section(world.target(), space, value);
    if (!c && !unreadable && (c.error().why == Why::paged_out || c.error().why == Why::not_in_dump))
      unreadable = c.error();
    // A thread that waits is counted as a waiter.
    if (!c || !c->plausible() || !c->locked() || c->waiters() == 0 || c->owner_tid == t.thread.tid) continue;
    const ThreadNode* owner = world.thread_by_id(t.process, c->owner_tid);
    if (owner == nullptr && !named) continue;
    return Found{*c, owner == nullptr ? VirtAddr() : owner->thread.address,
                 c->debug_agrees || named ? Confidence::derived : Confidence::heuristic};
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
  // PEB.LoaderLock of 32-bit code (public symbols of 32-bit ntdll).
  constexpr u64 kLoaderLock32 = 0xa0;
  const VirtAddr peb32 = nt::peb32_of(
      world.target(), nt::Object(world.target(), p.process.address).value_or(nt::EPROCESS::Wow64Process, {}));
  if (!peb32.is_null() &&
      memory::read<u32>(world.target().space(p.process.dtb), peb32 + kLoaderLock32).value_or(0) ==
          section.value())
    return fmt::format("loader lock of {} ({})", p.process.name, p.process.pid);
  return fmt::format("in {} ({})", p.process.name, p.process.pid);
}

VirtAddr object_of(const ThreadNode& t, VirtAddr otherwise) {
  return t.thread.wait_blocks.empty() ? otherwise : t.thread.wait_blocks.front().object;
}

void add(World& world, ThreadNode& t, const Found& found) {
  const nt::CriticalSection& c = found.section;
  const ProcessNode& p = world.processes[t.process];
  Lock fresh{.address = c.address,
             .process = p.process.address,
             .kind = "critical section",
             .mode = "exclusive",
             .contention = c.contention,
             .confidence = found.confidence};
  fresh.name = name_of(world, p, c.address);
  Edge edge{.from = t.thread.address,
            .to = found.owner,
            .kind = "critical section",
            .object = c.address,
            .confidence = found.confidence};
  if (!found.owner.is_null()) {
    edge.note =
        fmt::format("OwningThread {:#x} of a section whose address the waiter has on its stack", c.owner_tid);
    fresh.owners.push_back({.thread = edge.to,
                            .count = static_cast<u32>(c.recursion_count),
                            .alive = world.alive(found.owner),
                            .confidence = found.confidence});
  } else if (p.threads_torn) {
    edge.note =
        fmt::format("its owner, thread id {:#x}, is not among the threads that could be read", c.owner_tid);
  } else {
    // The thread has ended without leaving it, and is on no list any more.
    edge.note = fmt::format("its owner, thread id {:#x}, is no thread of the process any more", c.owner_tid);
    fresh.owners.push_back({.tid = c.owner_tid, .alive = false, .confidence = found.confidence});
  }
  Lock& lock = world.add_lock(std::move(fresh));
  lock.waiters.push_back(
      {.thread = t.thread.address, .access = "exclusive", .waited_ms = t.thread.waited_ms});
  world.add_wait(t, {.object = object_of(t, c.address),
                     .kind = "critical section",
                     .nature = WaitNature::lock,
                     .detail = fmt::format("critical section {} {}", c.address, lock.name),
                     .confidence = found.confidence});
  world.add_edge(std::move(edge));
}

// The function that waits says that it waits for one, and which cannot be told.
void add_unknown(World& world, ThreadNode& t, const std::optional<Error>& unreadable) {
  const std::string why =
      unreadable ? fmt::format("a value that may be its address leads to memory that cannot be read ({})",
                               text(*unreadable))
                 : "none of the values on its stack is one that is locked";
  const VirtAddr object = object_of(t, t.thread.address);
  world.add_wait(t, {.object = object,
                     .kind = "critical section",
                     .nature = WaitNature::lock,
                     .detail = "a critical section: " + why,
                     .confidence = Confidence::derived});
  world.add_edge({.from = t.thread.address,
                  .kind = "critical section",
                  .object = object,
                  .confidence = Confidence::heuristic,
                  .note = "a critical section, by the function that waits; " + why});
  if (unreadable)
    world.gaps.push_back({fmt::format("critical section that {} waits for", world.who(t.thread.address)), "",
                          "perhaps: " + text(*unreadable), true});
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!may_wait_for_one(t) || t.process >= world.processes.size()) continue;
    std::optional<Error> unreadable;
    auto found = look_for(world, t, false, unreadable);
    if (!found && t.stack.user_registers32) found = look_for(world, t, true, unreadable);
    if (found)
      add(world, t, *found);
    else if (says_critical_section(t))
      add_unknown(world, t, unreadable);
  }
}

}  // namespace

extern const WaitKind critical_section_kind;
const WaitKind critical_section_kind{.name = "critical section", .order = 25, .find = find};

}  // namespace unhang::waits
