// Executive resources: the reader/writer locks of file systems. Facts: WINDOWS 7.1, public PDBs.
#pragma once

#include <string>
#include <vector>

#include "nt/object.h"
#include "nt/walk.h"

namespace unhang::nt {

struct ERESOURCE {
  static constexpr TypeName kType{"_ERESOURCE"};
  static inline const Member<ListEntry> SystemResourcesList{kType, kRequired, "SystemResourcesList"};
  static inline const Member<VirtAddr> OwnerTable{kType, "OwnerTable"};
  static inline const Member<i16> ActiveCount{kType, kRequired, "ActiveCount"};
  static inline const Member<u16> Flag{kType, kRequired, "Flag"};
  static inline const Member<AnyInteger> SharedWaiters{kType, kRequired, "SharedWaiters"};
  static inline const Member<AnyInteger> ExclusiveWaiters{kType, kRequired, "ExclusiveWaiters"};
  static inline const Member<Inside> OwnerEntry{kType, kRequired, "OwnerEntry"};
  static inline const Member<u32> ActiveEntries{kType, "ActiveEntries"};
  static inline const Member<u32> ContentionCount{kType, "ContentionCount"};
  static inline const Member<u32> NumberOfSharedWaiters{kType, "NumberOfSharedWaiters"};
  static inline const Member<u32> NumberOfExclusiveWaiters{kType, "NumberOfExclusiveWaiters"};
};

struct OWNER_ENTRY {
  static constexpr TypeName kType{"_OWNER_ENTRY"};
  static inline const Member<VirtAddr> OwnerThread{kType, "OwnerThread"};
  // A bit-field of 30 bits at 2 (up to 8.1) or 29 bits at 3 (10 and later): the layout says which.
  static inline const Member<u32> OwnerCount{kType, "OwnerCount"};
  // The first entry of OwnerTable holds the table's size instead.
  static inline const Member<u32> TableSize{kType, "TableSize"};
};

struct KWAIT_CHAIN_ENTRY {
  static constexpr TypeName kType{"_KWAIT_CHAIN_ENTRY"};
  static inline const Member<Inside> Event{kType, "Event"};
  // Since 10.0.17763; before, the entry names no thread and the event's wait list does.
  static inline const Member<VirtAddr> Thread{kType, "Thread"};
};

struct ResourceOwner {
  VirtAddr thread{};       // flag bits masked away
  VirtAddr raw{};          // as it stands
  u32 count = 0;           // how often it holds the resource
  bool is_thread = false;  // ExSetResourceOwnerPointer may put another pointer here
  bool masked() const { return raw != thread; }
};

struct Resource {
  VirtAddr address{};
  u16 flag = 0;
  i16 active_count = 0;
  u32 active_entries = 0;
  u32 contention = 0;
  u32 shared_waiter_count = 0, exclusive_waiter_count = 0;  // as the resource counts them
  std::vector<ResourceOwner> owners;
  std::vector<VirtAddr> shared_waiters, exclusive_waiters;  // threads
  std::vector<Gap> gaps;
  bool exclusive() const { return (flag & 0x80) != 0; }  // ResourceOwnedExclusive (wdm.h)
  bool held() const { return active_count != 0 || !owners.empty(); }
  bool contended() const { return shared_waiter_count != 0 || exclusive_waiter_count != 0; }
  std::string_view mode() const { return !held() ? "free" : exclusive() ? "exclusive" : "shared"; }
};

// Whether an address is a resource: its list links point back, its counts are possible.
bool is_resource(const Target& target, VirtAddr va);
// Stricter, for memory that nothing but its place says to be a resource: any list of zeroed objects passes
// for one.
bool is_whole_resource(const Target& target, VirtAddr va);

// Errors: those of reading its fixed part. Lists that cannot be read become gaps.
Result<Resource> read_resource(const Target& target, VirtAddr va);

// Every resource: from ExpSystemResourcesList, or from any resource that is known when the head is not.
struct ResourceList {
  std::vector<VirtAddr> resources;
  Walk walk;
  std::vector<Gap> gaps;
  std::string how;
};
ResourceList list_resources(const Target& target, const std::vector<VirtAddr>& known);

}  // namespace unhang::nt
