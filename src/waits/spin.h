// Telling from a stack that a processor spins for a lock, or runs a deferred procedure.
#pragma once

#include <optional>

#include "waits/world.h"

namespace unhang::waits {

// The frame of the function that spins: among the innermost few. Nothing: it does not spin for a lock.
std::optional<size_t> spin_frame(const stack::ThreadStack& stack);

// The frame of the kernel's dispatcher of deferred procedures (DPCs): what is inside of it runs at
// DISPATCH_LEVEL on whatever thread's stack was there.
std::optional<size_t> dpc_frame(const stack::ThreadStack& stack);

// Whether the processor that the thread is on runs a deferred procedure: by such a frame, by
// KPRCB.DpcRoutineActive, or because an idle thread is in a driver's code, which it has none of its own.
bool in_deferred_procedure(const World& world, const ThreadNode& thread);

// The module of a symbol: "netkvm" of "netkvm!RxDpc+0x12".
std::string_view module_of(std::string_view symbol);

}  // namespace unhang::waits
