// Processors: KPCR, KPRCB, and the registers that belong to them.
#pragma once

#include "nt/object.h"
#include "nt/target.h"

namespace unhang::nt {

// The KPRCB lies inside the KPCR at +0x180 on every x64 build; KPCR.CurrentPrcb proves it.
inline constexpr u64 kPrcbInPcr = 0x180;

struct KPCR {
  static constexpr TypeName kType{"_KPCR"};
  static inline const Member<u8> Irql{kType, "Irql"};
};

struct KPRCB {
  static constexpr TypeName kType{"_KPRCB"};
  static inline const Member<u32> Number{kType, "Number"};
  static inline const Member<VirtAddr> CurrentThread{kType, kRequired, "CurrentThread"};
  static inline const Member<VirtAddr> NextThread{kType, "NextThread"};
  static inline const Member<VirtAddr> IdleThread{kType, "IdleThread"};
  static inline const Member<VirtAddr> Context{kType, "Context"};
  static inline const Member<Inside> ContextFrame{kType, "ProcessorState.ContextFrame"};
  static inline const Member<Inside> SpecialRegisters{kType, "ProcessorState.SpecialRegisters"};
  static inline const Member<VirtAddr> DpcStack{kType, "DpcStack"};
  static inline const Member<VirtAddr> IsrStack{kType, "IsrStack"};
  static inline const Member<u8> DpcRoutineActive{kType, "DpcRoutineActive"};
  static inline const Member<Inside> DpcData{kType, "DpcData"};
  static inline const Member<u64> KernelDirectoryTableBase{kType, "KernelDirectoryTableBase"};
  static inline const Member<Inside> LockQueue{kType, "LockQueue"};
  static inline const Member<u32> ReadySummary{kType, "ReadySummary"};
  static inline const Member<Inside> DispatcherReadyListHead{kType, "DispatcherReadyListHead"};
  static inline const Member<u32> KernelTime{kType, "KernelTime"};
  static inline const Member<u32> UserTime{kType, "UserTime"};
  static inline const Member<u32> DpcTime{kType, "DpcTime"};
  static inline const Member<u32> DpcTimeCount{kType, "DpcTimeCount"};
  static inline const Member<u32> InterruptTime{kType, "InterruptTime"};
};

struct CpuList {
  std::vector<Cpu> cpus;  // by Windows' number
  std::vector<Gap> gaps;
  std::vector<Known> known;
};

// Each vCPU of the dump through its KPCR, then processors that only Windows knows (KiProcessorBlock), with
// the contexts that a crash dump saved for them.
CpuList read_cpus(const Target& target);

// Where the stacks end on which a processor runs deferred procedures and interrupts: those of them that are
// known.
std::vector<VirtAddr> interrupt_stacks(const Target& target, const Cpu& cpu);

// A CONTEXT (0x4D0 bytes, public header winnt.h) as registers. nullopt when it is not an x64 one.
std::optional<dump::CpuState> state_from_context(ByteView context);

}  // namespace unhang::nt
