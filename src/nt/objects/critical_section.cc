#include "nt/objects/critical_section.h"

#include "nt/target.h"

namespace unhang::nt {

namespace {
constexpr u64 kNoDebugInfo = ~u64{0};  // since Windows 8, unless a debugger asked for it
constexpr u32 kMostWaiters = 1 << 16;
}  // namespace

bool CriticalSection::plausible() const {
  const bool debug = debug_agrees || debug_info.value() == kNoDebugInfo || debug_info.is_null();
  if (!debug || recursion_count < 0 || waiters() > kMostWaiters) return false;
  if (!locked()) return owner_tid == 0 && recursion_count == 0;
  return owner_tid != 0 && owner_tid % 4 == 0 && owner_tid < (u64{1} << 32) && recursion_count > 0;
}

Result<CriticalSection> read_critical_section(const Target& target, const Source<VirtAddr>& space,
                                              VirtAddr va) {
  const Object o(target, va, space);
  CriticalSection c{.address = va};
  c.debug_info = TRY(o[RTL_CRITICAL_SECTION::DebugInfo]);
  c.lock_count = TRY(o[RTL_CRITICAL_SECTION::LockCount]);
  c.recursion_count = TRY(o[RTL_CRITICAL_SECTION::RecursionCount]);
  c.owner_tid = TRY(o[RTL_CRITICAL_SECTION::OwningThread]);
  c.semaphore = TRY(o[RTL_CRITICAL_SECTION::LockSemaphore]);
  c.spin_count = TRY(o[RTL_CRITICAL_SECTION::SpinCount]);
  if (is_kernel(c.debug_info) || c.debug_info.is_null()) return c;
  const Object debug(target, c.debug_info, space);
  const auto back = debug[RTL_CRITICAL_SECTION_DEBUG::CriticalSection];
  c.debug_agrees = back && *back == va;
  if (c.debug_agrees) c.contention = debug.value_or(RTL_CRITICAL_SECTION_DEBUG::ContentionCount, 0);
  return c;
}

// winnt.h, with 32-bit pointers.
Result<CriticalSection> read_critical_section32(const Source<VirtAddr>& space, VirtAddr va) {
  struct Section32 {
    u32 debug_info;
    i32 lock_count, recursion_count;
    u32 owning_thread, lock_semaphore, spin_count;
  };
  constexpr u64 kCriticalSection = 4, kContentionCount = 0x14;  // of RTL_CRITICAL_SECTION_DEBUG
  const Section32 s = TRY(memory::read<Section32>(space, va));
  CriticalSection c{.address = va,
                    .debug_info = VirtAddr(s.debug_info == ~u32{0} ? kNoDebugInfo : s.debug_info),
                    .lock_count = s.lock_count,
                    .recursion_count = s.recursion_count,
                    .owner_tid = s.owning_thread,
                    .semaphore = s.lock_semaphore,
                    .spin_count = s.spin_count};
  if (is_kernel(c.debug_info) || c.debug_info.is_null()) return c;
  const auto back = memory::read<u32>(space, c.debug_info + kCriticalSection);
  c.debug_agrees = back && *back == va.value();
  if (c.debug_agrees) c.contention = memory::read<u32>(space, c.debug_info + kContentionCount).value_or(0);
  return c;
}

}  // namespace unhang::nt
