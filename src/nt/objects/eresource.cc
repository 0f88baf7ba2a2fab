#include "nt/objects/eresource.h"

#include <algorithm>

#include "base/format.h"
#include "nt/block_scan.h"
#include "nt/objects/dispatcher.h"
#include "nt/objects/thread.h"
#include "nt/resource_scan.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {

constexpr u32 kMostOwners = 4096;
constexpr size_t kMostWaiters = 1 << 16;
// ExSetResourceOwnerPointer marks its pointers in the low two bits; KD prints "*** Actual Thread".
constexpr u64 kOwnerFlags = 3;

ResourceOwner make_owner(const Target& target, VirtAddr raw, u32 count) {
  ResourceOwner owner{.thread = VirtAddr(raw.value() & ~kOwnerFlags), .raw = raw, .count = count};
  owner.is_thread = is_thread(target, owner.thread);
  return owner;
}

void read_owner_table(const Target& target, VirtAddr table, Resource& r) {
  const u64 size = target.layouts().size_of("_OWNER_ENTRY").value_or(16);
  const auto slots = Object(target, table)[OWNER_ENTRY::TableSize];
  if (!slots) {
    r.gaps.push_back({"owner table", hex(table), text(slots.error())});
    return;
  }
  if (*slots > kMostOwners) {
    r.gaps.push_back({"owner table", hex(table), fmt::format("{} slots are not plausible", *slots)});
    return;
  }
  // Slot 0 is the header: its count field holds the size.
  for (u64 i = 1; i < *slots; i++) {
    const Object e(target, table + i * size);
    const auto thread = e[OWNER_ENTRY::OwnerThread];
    if (!thread) {
      r.gaps.push_back({"owner table", hex(e.va()), text(thread.error())});
      return;
    }
    if (!thread->is_null())
      r.owners.push_back(make_owner(target, *thread, e.value_or(OWNER_ENTRY::OwnerCount, 0)));
  }
}

void read_owners(const Target& target, const Object& o, Resource& r) {
  if (const auto entry = o.address(ERESOURCE::OwnerEntry)) {
    const Object e(target, *entry);
    const auto thread = e[OWNER_ENTRY::OwnerThread];
    if (!thread)
      r.gaps.push_back({"owner", hex(*entry), text(thread.error())});
    else if (!thread->is_null())
      r.owners.push_back(make_owner(target, *thread, e.value_or(OWNER_ENTRY::OwnerCount, 0)));
  }
  if (const auto table = o.maybe(ERESOURCE::OwnerTable); table && is_kernel(*table))
    read_owner_table(target, *table, r);
}

// The three forms of a waiter field.
enum class WaiterForm { none, dispatcher, single_chain, ring };

WaiterForm form_of(const Target& target, const MemberLine& member) {
  const auto resolved = target.layouts().resolve(member.type(), member.path());
  if (!resolved || resolved->layout == nullptr) return WaiterForm::none;
  const std::string type = resolved->layout->describe(resolved->field.type);
  if (type == "Ptr64 _KSEMAPHORE" || type == "Ptr64 _KEVENT") return WaiterForm::dispatcher;
  if (type == "_KWAIT_CHAIN") return WaiterForm::single_chain;
  return WaiterForm::ring;
}

// A layout that is only the nearest one may name the wrong form; the memory tells. A dispatcher object begins
// with its type and size and a wait list, a ring entry with links that point back to it.
WaiterForm form_in_memory(const Target& target, VirtAddr at, WaiterForm stated) {
  if (stated == WaiterForm::single_chain) return stated;
  const auto links = memory::read<ListEntry>(target.kernel(), at);
  const bool ring =
      links && is_kernel(links->flink) && is_kernel(links->blink) && links->flink.value() % 8 == 0;
  if (ring) return WaiterForm::ring;
  const auto d = read_dispatcher(target, at);
  if (d && (d->type == DispatcherType::semaphore || d->type == DispatcherType::synchronization_event ||
            d->type == DispatcherType::notification_event))
    return WaiterForm::dispatcher;
  return stated;
}

void read_waiters_of(const Target& target, VirtAddr at, WaiterForm form, std::vector<VirtAddr>& threads,
                     Resource& r, const char* what) {
  auto from_event = [&](VirtAddr object) {
    const Waiters w = read_waiters(target, object);
    threads.insert(threads.end(), w.threads.begin(), w.threads.end());
    if (!w.walk.complete()) r.gaps.push_back({what, hex(object), w.walk.how()});
  };
  if (form == WaiterForm::dispatcher) return from_event(at);
  // Chain entries lie on the waiters' kernel stacks.
  const Walk walk = form == WaiterForm::ring ? walk_ring(target.kernel(), at, kMostWaiters)
                                             : walk_chain(target.kernel(), at, kMostWaiters);
  if (!walk.complete()) r.gaps.push_back({what, hex(at), walk.how()});
  const auto event = target.bind(KWAIT_CHAIN_ENTRY::Event);
  for (const VirtAddr entry : walk.links) {
    if (form == WaiterForm::ring) {
      if (const auto t = Object(target, entry)[KWAIT_CHAIN_ENTRY::Thread]; t && is_kernel(*t)) {
        threads.push_back(*t);
        continue;
      }
    }
    if (event) from_event(entry + event->offset);
  }
}

void read_waiter_field(const Target& target, const Object& o, const Member<AnyInteger>& member, u32 stated,
                       std::vector<VirtAddr>& threads, Resource& r, const char* what) {
  const auto raw = o[member];
  if (!raw) {
    if (stated != 0) r.gaps.push_back({what, hex(r.address), text(raw.error())});
    return;
  }
  const VirtAddr at(*raw & ~u64{7});  // chain heads may carry flags in their low bits
  // The semaphore or event stays allocated when nobody waits any more: only the count says that somebody
  // does.
  if (stated == 0 || !is_kernel(at)) {
    if (stated != 0)
      r.gaps.push_back(
          {what, hex(r.address), fmt::format("{} are counted, but there is no list of them", stated)});
    return;
  }
  read_waiters_of(target, at, form_in_memory(target, at, form_of(target, member)), threads, r, what);
  if (threads.size() != stated)
    r.gaps.push_back({what, hex(r.address), fmt::format("{} are counted, {} found", stated, threads.size())});
}

}  // namespace

bool is_resource(const Target& target, VirtAddr va) {
  if (!is_kernel(va) || va.value() % 8 != 0) return false;
  const Object o(target, va);
  const auto links = o[ERESOURCE::SystemResourcesList];
  const auto at = o.address(ERESOURCE::SystemResourcesList);
  if (!links || !at || !is_kernel(links->flink) || !is_kernel(links->blink)) return false;
  // One of the neighbours must point back; the other's page may be missing.
  const auto next = memory::read<ListEntry>(target.kernel(), links->flink),
             before = memory::read<ListEntry>(target.kernel(), links->blink);
  const bool back = (next && next->blink == *at) || (before && before->flink == *at);
  const auto shared = o[ERESOURCE::NumberOfSharedWaiters], exclusive = o[ERESOURCE::NumberOfExclusiveWaiters];
  return back && shared && exclusive && *shared < 0x100000 && *exclusive < 0x100000;
}

bool is_whole_resource(const Target& target, VirtAddr va) {
  if (!is_resource(target, va)) return false;
  auto null_or_kernel = [](u64 v) { return v == 0 || is_kernel(VirtAddr(v)); };
  const Object o(target, va);
  const auto active = o[ERESOURCE::ActiveCount];
  const auto shared = o[ERESOURCE::SharedWaiters], exclusive = o[ERESOURCE::ExclusiveWaiters];
  const auto table = o[ERESOURCE::OwnerTable];
  if (!active || *active < 0 || !shared || !null_or_kernel(*shared) || !exclusive ||
      !null_or_kernel(*exclusive) || !table)
    return false;
  if (table->is_null()) return true;
  const auto slots = Object(target, *table)[OWNER_ENTRY::TableSize];
  return is_kernel(*table) && slots && *slots <= kMostOwners;
}

Result<Resource> read_resource(const Target& target, VirtAddr va) {
  const Object o(target, va);
  Resource r{.address = va};
  r.flag = TRY(o[ERESOURCE::Flag]);
  r.active_count = TRY(o[ERESOURCE::ActiveCount]);
  r.active_entries = o.value_or(ERESOURCE::ActiveEntries, 0);
  r.contention = o.value_or(ERESOURCE::ContentionCount, 0);
  r.shared_waiter_count = o.value_or(ERESOURCE::NumberOfSharedWaiters, 0);
  r.exclusive_waiter_count = o.value_or(ERESOURCE::NumberOfExclusiveWaiters, 0);
  read_owners(target, o, r);
  read_waiter_field(target, o, ERESOURCE::SharedWaiters, r.shared_waiter_count, r.shared_waiters, r,
                    "shared waiters");
  read_waiter_field(target, o, ERESOURCE::ExclusiveWaiters, r.exclusive_waiter_count, r.exclusive_waiters, r,
                    "exclusive waiters");
  return r;
}

ResourceList list_resources(const Target& target, const std::vector<VirtAddr>& known) {
  ResourceList list;
  const auto link = target.bind(ERESOURCE::SystemResourcesList);
  if (!link) {
    list.gaps.push_back({"resources", "", text(link.error())});
    return list;
  }
  auto add = [&](const Walk& walk) {
    for (const VirtAddr l : walk.links) {
      // Entered from a resource, the ring leads over its head: a LIST_ENTRY in nt that is no resource.
      if (target.nt().contains(l) && !is_whole_resource(target, l - link->offset)) continue;
      list.resources.push_back(l - link->offset);
    }
  };
  if (const auto head = target.symbol("ExpSystemResourcesList")) {
    list.walk = walk_list(target.kernel(), *head);
    list.how = "ExpSystemResourcesList";
    for (const VirtAddr l : list.walk.links) list.resources.push_back(l - link->offset);
  } else {
    for (const VirtAddr r : known) {
      if (!is_resource(target, r)) continue;
      list.walk = walk_ring(target.kernel(), r + link->offset);
      list.how = "the ring around a file's resource";
      add(list.walk);
      break;
    }
    if (list.how.empty())
      if (const VirtAddr r = find_listed_resource(target); !r.is_null()) {
        list.walk = walk_ring(target.kernel(), r + link->offset);
        list.how = "the ring that nt's own resources are in";
        add(list.walk);
      }
    if (list.how.empty())  // a thread that waits for one says so by itself
      list.gaps.push_back(
          {.what = "resources",
           .where = "",
           .why = text(head.error()) + ", and neither files nor nt's data lead to one that is held",
           .minor = true});
  }
  if (!list.walk.complete()) list.gaps.push_back({"resources", "", list.walk.how()});
  for (const VirtAddr r : scan_blocks(target).resources)
    if (std::find(list.resources.begin(), list.resources.end(), r) == list.resources.end()) {
      list.resources.push_back(r);
      list.how = "held resources in the dump's memory blocks, by their shape";
    }
  // Resources that files lead to but that the walk did not reach.
  std::vector<VirtAddr> sorted = list.resources;
  std::sort(sorted.begin(), sorted.end());
  size_t outside = 0;
  for (const VirtAddr r : known)
    if (!std::binary_search(sorted.begin(), sorted.end(), r) && is_resource(target, r)) {
      list.resources.push_back(r);
      outside++;
    }
  if (outside != 0 && list.walk.complete())
    list.gaps.push_back({"resources", "", fmt::format("{} more were found through files", outside)});
  return list;
}

}  // namespace unhang::nt
