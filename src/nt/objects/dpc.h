// Deferred procedure calls: what waits in a processor's queues, and which one runs.
// Facts: public PDBs (_KPRCB.DpcData, _KDPC_DATA, _KDPC); !dpcs shows the same.
#pragma once

#include <optional>
#include <vector>

#include "nt/object.h"
#include "nt/target.h"

namespace unhang::nt {

struct KDPC_DATA {
  static constexpr TypeName kType{"_KDPC_DATA"};
  static inline const Member<Inside> DpcList{kType, "DpcList", "DpcListHead"};
  static inline const Member<u32> DpcQueueDepth{kType, "DpcQueueDepth"};
  static inline const Member<VirtAddr> ActiveDpc{kType, "ActiveDpc"};  // since Windows 8.1
};

struct KDPC {
  static constexpr TypeName kType{"_KDPC"};
  static inline const Member<Inside> DpcListEntry{kType, "DpcListEntry"};
  static inline const Member<VirtAddr> DeferredRoutine{kType, "DeferredRoutine"};
  static inline const Member<VirtAddr> DeferredContext{kType, "DeferredContext"};
};

struct Dpc {
  VirtAddr address{}, routine{}, context{};
};

struct DpcQueue {
  bool threaded = false;  // those that may run in a thread of their own
  u32 depth = 0;          // as the processor counts them
  std::optional<Dpc> active;
  std::vector<Dpc> queued;
};

// The two queues of a processor. Errors: no_member (public symbols since 22H2 do not say where they lie),
// those of reading.
Result<std::vector<DpcQueue>> read_dpcs(const Target& target, const Cpu& cpu);

}  // namespace unhang::nt
