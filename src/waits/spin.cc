#include "waits/spin.h"

#include <algorithm>
#include <span>

#include "nt/objects/cpu.h"

namespace unhang::waits {

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

// Where idle processors rest.
constexpr std::string_view kIdleModules[] = {"nt", "hal", "intelppm", "amdppm", "processr"};

bool is(std::string_view symbol, std::span<const std::string_view> names) {
  const std::string_view name = symbol.substr(0, symbol.find('+'));
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string_view module_of(std::string_view symbol) {
  return symbol.substr(0, symbol.find_first_of("!+"));
}

std::optional<size_t> spin_frame(const stack::ThreadStack& stack) {
  constexpr size_t kTop = 4;  // the spinning function is the innermost or just above a helper
  for (size_t i = 0; i < stack.symbols.size() && i < kTop; i++)
    if (is(stack.symbols[i], kSpinFunctions)) return i;
  return std::nullopt;
}

std::optional<size_t> dpc_frame(const stack::ThreadStack& stack) {
  for (size_t i = 0; i < stack.symbols.size(); i++)
    if (is(stack.symbols[i], kDpcFunctions)) return i;
  return std::nullopt;
}

bool in_deferred_procedure(const World& world, const ThreadNode& thread) {
  if (dpc_frame(thread.stack)) return true;
  if (!thread.cpu) return false;
  bool has_registers = false;
  for (const nt::Cpu& cpu : world.target().cpus()) {
    if (cpu.number != *thread.cpu) continue;
    if (nt::Object(world.target(), cpu.kprcb).value_or(nt::KPRCB::DpcRoutineActive, 0) != 0) return true;
    has_registers = cpu.state.has_value();
  }
  if (!thread.idle_thread || !has_registers || thread.stack.symbols.empty()) return false;
  return std::any_of(thread.stack.symbols.begin(), thread.stack.symbols.end(), [](std::string_view s) {
    const std::string_view module = module_of(s);
    return !module.empty() &&
           std::find(std::begin(kIdleModules), std::end(kIdleModules), module) == std::end(kIdleModules);
  });
}

}  // namespace unhang::waits
