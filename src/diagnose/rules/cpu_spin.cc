// A processor that spins: in a spin lock that is never released, or in a deferred procedure that does not
// end.
#include <algorithm>

#include "base/format.h"
#include "diagnose/rule.h"
#include "nt/objects/cpu.h"

namespace unhang::diagnose {

namespace {

// Functions that spin at DISPATCH_LEVEL or above until somebody else lets go (exports and public symbols).
constexpr std::string_view kSpinFunctions[] = {"nt!KeAcquireSpinLockRaiseToDpc",
                                               "nt!KeAcquireSpinLockAtDpcLevel",
                                               "nt!KeAcquireSpinLock",
                                               "nt!KxWaitForSpinLockAndAcquire",
                                               "nt!KxWaitForLockOwnerShip",
                                               "nt!KeAcquireInStackQueuedSpinLock",
                                               "nt!KeAcquireInStackQueuedSpinLockAtDpcLevel",
                                               "nt!KeAcquireQueuedSpinLock",
                                               "nt!KeAcquireSpinLockForDpc",
                                               "nt!ExAcquireSpinLockExclusive",
                                               "nt!ExAcquireSpinLockShared",
                                               "nt!ExpWaitForSpinLockExclusiveAndAcquire",
                                               "nt!ExpWaitForSpinLockSharedAndAcquire",
                                               "nt!KiAcquireSpinLockInstrumented",
                                               "hal!KeAcquireSpinLock",
                                               "hal!KeAcquireSpinLockRaiseToDpc",
                                               "hal!KeAcquireInStackQueuedSpinLock"};
constexpr std::string_view kDpcFunctions[] = {"nt!KiRetireDpcList", "nt!KiExecuteAllDpcs", "nt!KiExecuteDpc",
                                              "nt!KiProcessExpiredTimerList"};

bool is(const std::string& symbol, std::span<const std::string_view> names) {
  const std::string_view name = std::string_view(symbol).substr(0, symbol.find('+'));
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string module_of(const std::string& symbol) {
  return symbol.substr(0, symbol.find_first_of("!+"));
}

void find(Context& c, std::vector<Finding>& findings) {
  for (const nt::Cpu& cpu : c.world.target().cpus()) {
    const ThreadNode* t = c.world.thread(cpu.current_thread);
    if (t == nullptr || !cpu.state || t->stack.symbols.empty()) continue;
    const std::vector<std::string>& s = t->stack.symbols;
    constexpr size_t kTop = 4;  // the spinning function is the innermost or just above a helper
    size_t spin = s.size(), dpc = s.size();
    for (size_t i = 0; i < s.size(); i++) {
      if (i < kTop && spin == s.size() && is(s[i], kSpinFunctions)) spin = i;
      if (dpc == s.size() && is(s[i], kDpcFunctions)) dpc = i;
    }
    if (spin == s.size()) continue;
    // Who asked for the lock: the first frame outside of the kernel, else the one above.
    size_t caller = spin + 1;
    for (size_t i = spin + 1; i < s.size(); i++)
      if (const std::string m = module_of(s[i]); m != "nt" && m != "hal") {
        caller = i;
        break;
      }
    Finding f{.rule = "cpu-spin", .verdict = "cpu-spin", .confidence = Confidence::heuristic};
    f.culprit = c.culprit(cpu.current_thread);
    f.culprit.driver = caller < s.size() ? module_of(s[caller]) : "nt";
    const bool in_dpc = dpc < s.size();
    // A DPC borrows the stack of whatever thread it interrupted: the thread is innocent.
    const std::string what = in_dpc ? fmt::format("a deferred procedure (DPC) of {}", f.culprit.driver)
                                    : fmt::format("{} for {}", c.who(cpu.current_thread), f.culprit.driver);
    f.title = fmt::format("CPU {} spins in {}: {} waits for a spin lock", cpu.number, s[spin], what);
    f.evidence.push_back(c.about_thread(
        cpu.current_thread,
        fmt::format("registers of CPU {}: {} at {}, called from {}", cpu.number, cpu.state_from, s[spin],
                    caller < s.size() ? s[caller] : "an unknown function"),
        t->stack.heuristic ? Confidence::heuristic : Confidence::exact));
    if (in_dpc)
      f.evidence.push_back(
          {.text = fmt::format(
               "below it {}: the processor is at DISPATCH_LEVEL and runs no thread until the DPC ends",
               s[dpc]),
           .confidence = Confidence::exact,
           .reads = {},
           .check = "!running -it"});
    std::vector<VirtAddr> suffering = c.graph.behind(cpu.current_thread).threads;
    // Threads that are ready to run on this processor and cannot.
    for (const ThreadNode& other : c.world.threads)
      if (!other.idle_thread &&
          (other.thread.state == nt::ThreadState::ready || other.thread.state == nt::ThreadState::standby) &&
          other.thread.next_processor == cpu.number)
        suffering.push_back(other.thread.address);
    if (!suffering.empty())
      f.evidence.push_back(
          {.text = fmt::format("{} for it or cannot run on CPU {}",
                               counted(suffering.size(), "thread waits", "threads wait"), cpu.number),
           .confidence = Confidence::derived,
           .reads = {},
           .check = "!ready"});
    f.waiting = suffering.size();
    f.advice = {
        "One look cannot tell a short spin from an endless one: take a second dump ten seconds later. The "
        "same CPU at the same place is the cause.",
        fmt::format("Update or take out {}; its maker needs this stack and the stacks of all other "
                    "processors (`!running -it`): one of "
                    "them may hold the lock.",
                    f.culprit.driver)};
    f.on_symptom = c.touches_entry(cpu.current_thread, suffering);
    f.score = 15 + c.weight(suffering);
    findings.push_back(std::move(f));
  }
}

}  // namespace

extern const Rule cpu_spin_rule;
const Rule cpu_spin_rule{.name = "cpu-spin", .find = find};

}  // namespace unhang::diagnose
