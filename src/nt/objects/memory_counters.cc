#include "nt/objects/memory_counters.h"

#include <algorithm>

#include "base/format.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {

struct MI_PARTITION {
  static constexpr TypeName kType{"_MI_PARTITION"};
  static inline const Member<u64> AvailablePages{kType, "Vp.AvailablePages"};
  static inline const Member<u64> ResidentAvailablePages{kType, "Vp.ResidentAvailablePages"};
  static inline const Member<u64> NumberOfPhysicalPages{kType, "Vp.NumberOfPhysicalPages"};
  static inline const Member<u64> TotalCommittedPages{kType, "Vp.TotalCommittedPages"};
  static inline const Member<u64> TotalCommitLimit{kType, "Vp.TotalCommitLimit"};
};

struct POOL_TRACKER_TABLE {
  static constexpr TypeName kType{"_POOL_TRACKER_TABLE"};
  static inline const Member<u32> Key{kType, "Key"};
  static inline const Member<u64> NonPagedBytes{kType, "NonPagedBytes"};
  static inline const Member<u64> PagedBytes{kType, "PagedBytes"};
  static inline const Member<AnyInteger> NonPagedAllocs{kType, "NonPagedAllocs"};
  static inline const Member<AnyInteger> NonPagedFrees{kType, "NonPagedFrees"};
  static inline const Member<AnyInteger> PagedAllocs{kType, "PagedAllocs"};
  static inline const Member<AnyInteger> PagedFrees{kType, "PagedFrees"};
};

constexpr u64 kMostTags = 1 << 17, kMostShown = 64;

std::optional<u64> variable(const Target& target, const char* name) {
  const auto va = target.symbol(name);
  if (!va) return std::nullopt;
  const auto v = memory::read<u64>(target.kernel(), *va);
  return v ? std::optional<u64>(*v) : std::nullopt;
}

std::string tag_text(u32 key) {
  std::string s;
  for (int i = 0; i < 4; i++) {
    const char c = static_cast<char>(key >> (i * 8) & 0x7f);  // the top bit marks protected allocations
    s += c >= 0x20 && c < 0x7f ? c : '.';
  }
  return s;
}

void read_pool(const Target& target, MemoryCounters& out) {
  const auto table = target.pointer_at("PoolTrackTable");
  const auto count = variable(target, "PoolTrackTableSize");
  const auto size = target.layouts().size_of("_POOL_TRACKER_TABLE");
  if (!table || !count || !size || !is_kernel(*table) || *count == 0 || *count > kMostTags) return;
  const memory::Sparse sparse = memory::read_sparse(target.kernel(), *table, *count * *size);
  if (!sparse.holes.empty())
    out.gaps.push_back({"pool usage", hex(*table), text(sparse.holes.front().error), true});
  for (u64 i = 0; i < *count; i++) {
    if (!sparse.has(i * *size, *size)) continue;
    const Object o(target, *table + i * *size);
    const u32 key = o.value_or(POOL_TRACKER_TABLE::Key, 0);
    if (key == 0) continue;
    PoolTag t{.tag = tag_text(key)};
    t.nonpaged_bytes = o.value_or(POOL_TRACKER_TABLE::NonPagedBytes, 0);
    t.paged_bytes = o.value_or(POOL_TRACKER_TABLE::PagedBytes, 0);
    t.nonpaged_count =
        o.value_or(POOL_TRACKER_TABLE::NonPagedAllocs, 0) - o.value_or(POOL_TRACKER_TABLE::NonPagedFrees, 0);
    t.paged_count =
        o.value_or(POOL_TRACKER_TABLE::PagedAllocs, 0) - o.value_or(POOL_TRACKER_TABLE::PagedFrees, 0);
    constexpr u64 kImpossible = u64{1} << 46;
    if (t.nonpaged_bytes > kImpossible || t.paged_bytes > kImpossible) continue;
    out.nonpaged_bytes += t.nonpaged_bytes;
    out.paged_bytes += t.paged_bytes;
    out.tags.push_back(std::move(t));
  }
  std::stable_sort(out.tags.begin(), out.tags.end(), [](const PoolTag& a, const PoolTag& b) {
    return a.nonpaged_bytes + a.paged_bytes > b.nonpaged_bytes + b.paged_bytes;
  });
  if (out.tags.size() > kMostShown) out.tags.resize(kMostShown);
}

}  // namespace

MemoryCounters read_memory_counters(const Target& target) {
  MemoryCounters out;
  // Up to 8.1 plain variables, since Windows 10 members of the system's memory partition.
  out.available = variable(target, "MmAvailablePages");
  out.resident_available = variable(target, "MmResidentAvailablePages");
  out.physical = variable(target, "MmNumberOfPhysicalPages");
  out.committed = variable(target, "MmTotalCommittedPages");
  out.commit_limit = variable(target, "MmTotalCommitLimit");
  if (const auto partition = target.symbol("MiSystemPartition")) {
    const Object p(target, *partition);
    out.available = p.maybe(MI_PARTITION::AvailablePages);
    out.resident_available = p.maybe(MI_PARTITION::ResidentAvailablePages);
    out.physical = p.maybe(MI_PARTITION::NumberOfPhysicalPages);
    out.committed = p.maybe(MI_PARTITION::TotalCommittedPages);
    out.commit_limit = p.maybe(MI_PARTITION::TotalCommitLimit);
  }
  read_pool(target, out);
  return out;
}

}  // namespace unhang::nt
