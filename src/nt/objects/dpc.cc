#include "nt/objects/dpc.h"

#include "nt/objects/cpu.h"

namespace unhang::nt {

namespace {

constexpr size_t kMostQueued = 1024;

Result<Dpc> read_dpc(const Target& target, VirtAddr va) {
  const Object o(target, va);
  return Dpc{.address = va,
             .routine = TRY(o[KDPC::DeferredRoutine]),
             .context = o.value_or(KDPC::DeferredContext, {})};
}

// Windows 7 links them in a ring, later ones in a chain: both go on through the first pointer.
std::vector<Dpc> queued(const Target& target, VirtAddr head, u32 entry) {
  std::vector<Dpc> out;
  auto next = memory::read<VirtAddr>(target.kernel(), head);
  while (next && is_kernel(*next) && *next != head && out.size() < kMostQueued) {
    const auto dpc = read_dpc(target, *next - entry);
    if (!dpc || !is_kernel(dpc->routine)) break;
    out.push_back(*dpc);
    next = memory::read<VirtAddr>(target.kernel(), *next);
  }
  return out;
}

}  // namespace

Result<std::vector<DpcQueue>> read_dpcs(const Target& target, const Cpu& cpu) {
  const VirtAddr data = TRY(Object(target, cpu.kprcb).address(KPRCB::DpcData));
  const u64 size = target.layouts().size_of("_KDPC_DATA").value_or(0);
  const u32 list = TRY(target.bind(KDPC_DATA::DpcList)).offset,
            entry = TRY(target.bind(KDPC::DpcListEntry)).offset;
  if (size == 0) return fail(Error{.why = Why::no_member, .type = "_KDPC_DATA"});
  std::vector<DpcQueue> queues;
  for (const bool threaded : {false, true}) {
    const Object o(target, data + (threaded ? size : 0));
    DpcQueue q{.threaded = threaded, .depth = TRY(o[KDPC_DATA::DpcQueueDepth])};
    if (const VirtAddr active = o.value_or(KDPC_DATA::ActiveDpc, {}); is_kernel(active))
      if (const auto dpc = read_dpc(target, active)) q.active = *dpc;
    q.queued = queued(target, o.va() + list, entry);
    queues.push_back(std::move(q));
  }
  return queues;
}

}  // namespace unhang::nt
