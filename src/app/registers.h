// Registers under the debugger's names: what `r` prints, what `@rsp` means in an expression, what
// `info --json` says of each processor.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "app/session.h"
#include "base/node.h"
#include "dump/cpu_state.h"

namespace unhang::app {

struct RegisterValue {
  const char* name;
  // Absent: this form of dump does not hold it.
  std::optional<u64> value;
};

// rax to r15, rip, efl, selectors; then what is no part of a CONTEXT: bases, control and debug registers,
// descriptor tables, MSRs.
std::vector<RegisterValue> registers_of(const dump::CpuState& cpu);

// A member for each, null where the dump does not hold it; xmm (16 numbers of 128 bits), halted,
// hyperv_crash (5).
Node registers_node(const dump::CpuState& cpu);

// The registers of the current thread: all of them, where it runs on a processor and the dump has them; else
// the rip and rsp that it saved when it was switched out.
struct ThreadRegisters {
  const nt::Cpu* cpu = nullptr;  // null: switched out
  u64 rip = 0, rsp = 0;
  // nullopt: no such register. Errors: not_in_dump.
  std::optional<Result<u64>> find(std::string_view name) const;
};
// Errors: not_in_dump (its processor has no registers, its stack is missing), those of reading a thread.
Result<ThreadRegisters> current_registers(Session& session);

}  // namespace unhang::app
