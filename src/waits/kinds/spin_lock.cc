// Spin locks: a processor turns in a loop until another lets go. A lock is one bit and names no owner; the
// processor that has its address on its stack or in a register is a candidate. Queued ones are another kind.
#include <algorithm>

#include "base/format.h"
#include "waits/kind.h"
#include "waits/spin.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

// The lock that a spinning processor has in a register: taken, and outside of the stack.
std::optional<VirtAddr> lock_in_register(const World& world, const nt::Cpu& cpu, const ThreadNode& t) {
  static constexpr int kOrder[] = {dump::rcx, dump::rbx, dump::rdi, dump::rsi, dump::rdx,
                                   dump::r8,  dump::r9,  dump::r10, dump::r11, dump::r12,
                                   dump::r13, dump::r14, dump::r15, dump::rax};
  for (const int r : kOrder) {
    const VirtAddr va(cpu.state->gpr[static_cast<size_t>(r)]);
    if (!is_kernel(va) || va.value() % 4 != 0) continue;
    if (va >= t.thread.stack_limit && va < t.thread.stack_base) continue;
    // KSPIN_LOCK: 1 on a free build. EX_SPIN_LOCK: bit 31 for exclusive owners.
    const auto value = memory::read<u32>(world.target().kernel(), va);
    if (value && (*value == 1 || (*value >> 31) != 0)) return va;
  }
  return std::nullopt;
}

// Whether a processor can be inside of a spin lock: never in user mode; in the kernel it is at
// DISPATCH_LEVEL (2: wdm.h) at least, or has turned its interrupts off. CR8 is the level on x64.
bool may_hold(const dump::CpuState& state) {
  constexpr u64 kInterruptFlag = 1 << 9, kDispatchLevel = 2;
  if (state.user_mode()) return false;
  return !state.cr8 || *state.cr8 >= kDispatchLevel || (state.rflags & kInterruptFlag) == 0;
}

// Where a processor keeps a lock's address: "on its stack", "in rbx". Empty: nowhere.
std::string place_of(const World& world, const nt::Cpu& cpu, const ThreadNode& t, VirtAddr lock) {
  for (const StackWord& w : kernel_stack_words(world, t))
    if (w.value == lock) return "on its stack";
  for (size_t r = 0; r < dump::kGprNames.size(); r++)
    if (cpu.state->gpr[r] == lock.value()) return fmt::format("in {}", dump::kGprNames[r]);
  return "";
}

void find(World& world) {
  for (const nt::Cpu& cpu : world.target().cpus()) {
    const ThreadNode* t = world.thread(cpu.current_thread);
    if (t == nullptr || !cpu.state || !spin_frame(t->stack)) continue;
    const bool queued = std::any_of(world.edges.begin(), world.edges.end(), [&](const Edge& e) {
      return e.from == t->thread.address && std::string_view(e.kind) == "queued spin lock";
    });
    if (queued) continue;
    const auto lock = lock_in_register(world, cpu, *t);
    if (!lock) continue;
    Edge edge{
        .from = t->thread.address, .kind = "spin lock", .object = *lock, .confidence = Confidence::heuristic};
    for (const nt::Cpu& other : world.target().cpus()) {
      const ThreadNode* o = world.thread(other.current_thread);
      if (o == nullptr || o == t || !other.state || !may_hold(*other.state) || spin_frame(o->stack)) continue;
      if (const std::string place = place_of(world, other, *o, *lock); !place.empty())
        edge.candidates.push_back(
            {o->thread.address, fmt::format("CPU {} has the lock's address {}", other.number, place)});
    }
    edge.note = fmt::format("CPU {} spins for it; a spin lock names no owner", cpu.number);
    if (edge.candidates.size() == 1) {
      edge.to = edge.candidates.front().thread;
      edge.note = edge.candidates.front().why;
    }
    Lock fresh{
        .address = *lock, .kind = "spin lock", .mode = "exclusive", .confidence = Confidence::heuristic};
    fresh.name = world.target().symbolize(*lock);
    if (!edge.to.is_null())
      fresh.owners.push_back({.thread = edge.to, .count = 1, .confidence = Confidence::heuristic});
    world.add_lock(std::move(fresh))
        .waiters.push_back({.thread = t->thread.address, .access = "exclusive", .waited_ms = {}});
    world.add_edge(std::move(edge));
  }
}

}  // namespace

extern const WaitKind spin_lock_kind;
const WaitKind spin_lock_kind{.name = "spin lock", .order = 16, .find = find};

}  // namespace unhang::waits
