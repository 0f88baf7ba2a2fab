// What threads wait for: dispatcher objects, locks, messages, work queues.
#include "base/check.h"
#include "synth/machine.h"

namespace unhang::synth {

VirtAddr Machine::add_event(bool synchronization) {
  const VirtAddr e = object("Event", size("_KEVENT"));
  set(e, "_DISPATCHER_HEADER", "Type", synchronization ? 1 : 0);
  set(e, "_DISPATCHER_HEADER", "Size", 6);
  init_list(e + offset("_DISPATCHER_HEADER", "WaitListHead"));
  return e;
}

VirtAddr Machine::add_mutant(VirtAddr owner) {
  const VirtAddr m = object("Mutant", size("_KMUTANT"));
  set(m, "_DISPATCHER_HEADER", "Type", 2);
  init_list(m + offset("_DISPATCHER_HEADER", "WaitListHead"));
  set(m, "_KMUTANT", "OwnerThread", owner.value());
  insert_tail(owner + offset("_KTHREAD", "MutantListHead"), m + offset("_KMUTANT", "MutantListEntry"));
  return m;
}

VirtAddr Machine::add_queue() {
  const VirtAddr q = alloc(size("_KQUEUE"));
  set(q, "_DISPATCHER_HEADER", "Type", 4);
  init_list(q + offset("_DISPATCHER_HEADER", "WaitListHead"));
  return q;
}

VirtAddr Machine::add_fast_mutex(VirtAddr owner) {
  const VirtAddr m = alloc(0x40);
  set(m, "_FAST_MUTEX", "Count", 0);
  set(m, "_FAST_MUTEX", "Owner", owner.value());
  const VirtAddr event = m + offset("_FAST_MUTEX", "Event");
  set(event, "_DISPATCHER_HEADER", "Type", 1);
  set(event, "_DISPATCHER_HEADER", "Size", 6);
  init_list(event + offset("_DISPATCHER_HEADER", "WaitListHead"));
  return m;
}

void Machine::init_event(VirtAddr event, u8 type) {
  set(event, "_DISPATCHER_HEADER", "Type", type);
  set(event, "_DISPATCHER_HEADER", "Size", type == 5 ? 8 : 6);
  init_list(event + offset("_DISPATCHER_HEADER", "WaitListHead"));
}

void Machine::queue_for_spin_lock(VirtAddr lock, VirtAddr place) {
  const VirtAddr last(memory_.get<u64>(lock));
  memory_.put<u64>(place + 8, lock.value() | (last.is_null() ? 0 : 1));
  if (!last.is_null()) memory_.put(last, place);
  memory_.put(lock, place);
}

VirtAddr Machine::add_push_lock() {
  return alloc(16);
}

void Machine::add_lock_entry(VirtAddr thread, VirtAddr lock, bool acquired) {
  const auto inside = field("_ETHREAD", "LockEntries"), old = field("_KTHREAD", "LockEntries");
  const u64 entry_size = layout_->find_type("_KLOCK_ENTRY") ? size("_KLOCK_ENTRY") : 0;
  VirtAddr slots;
  if (entry_size == 0) return;
  if (layout_->field("_KTHREAD", "KernelAbEntries")) {
    // 10.0.26100: in a block of their own.
    VirtAddr block(get(thread, "_KTHREAD", "KernelAbEntries"));
    if (block.is_null()) {
      constexpr u8 kSlots = 6;
      block = alloc(offset("_KLOCK_ENTRIES", "Entries") + kSlots * entry_size);
      set(block, "_KLOCK_ENTRIES", "Thread", thread.value());
      set(block, "_KLOCK_ENTRIES", "EntryCount", kSlots);
      set(thread, "_KTHREAD", "KernelAbEntries", block.value());
    }
    slots = block + offset("_KLOCK_ENTRIES", "Entries");
  } else if (inside) {
    slots = thread + inside->offset;
  } else if (old) {
    slots = thread + old->offset;
  } else {
    return;
  }
  const VirtAddr e = slots + lock_entries_[thread]++ * entry_size;
  memory_.put<u64>(e + offset("_KLOCK_ENTRY", "LockState"), lock.value());
  const auto flag = [&](std::vector<const char*> names) {
    while (names.size() > 1 && !layout_->field("_KLOCK_ENTRY", names.front())) names.erase(names.begin());
    set(e, "_KLOCK_ENTRY", names.front(), 1);
  };
  if (acquired)
    flag({"AcquiredBit", "AcquiredByte"});
  else
    flag({"WaitingBit", "WaitingByte", "LockState.Waiting"});
}

void Machine::own_push_lock(VirtAddr lock, VirtAddr thread) {
  memory_.put<u64>(lock, memory_.get<u64>(lock) | 1);
  keep_on_stack(thread, lock.value());
  add_lock_entry(thread, lock, true);
}

void Machine::wait_for_push_lock(VirtAddr thread, VirtAddr lock, u32 ticks, const Labels& below) {
  const VirtAddr block_at = stack_slot(thread, 0x40);
  init_event(block_at);
  const u64 value = memory_.get<u64>(lock);
  if ((value & 2) != 0) memory_.put<u64>(block_at + 0x18, value & ~u64{0xf});
  memory_.put<u64>(lock, block_at.value() | 3);
  keep_on_stack(thread, lock.value());
  add_lock_entry(thread, lock, false);
  Labels stack{"nt!KeWaitForSingleObject", "nt!ExfAcquirePushLockExclusive"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 28, {block_at}, ticks, stack);
}

VirtAddr Machine::wait_for_event_on_stack(VirtAddr thread, u32 ticks, const Labels& below) {
  const VirtAddr event = stack_slot(thread, 0x20);
  init_event(event);
  Labels stack{"nt!KeWaitForSingleObject"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 0, {event}, ticks, stack);
  return event;
}

void Machine::wait_for_timer(VirtAddr thread, u32 ticks, u32 overdue) {
  const VirtAddr timer = thread + offset("_KTHREAD", "Timer");
  init_event(timer, 8);
  set(timer, "_KTIMER", "DueTime", u64{tick_count() - overdue} * kIncrement);
  block(thread, 4, {timer}, ticks,
        {"nt!KeDelayExecutionThread", "nt!NtDelayExecution", "nt!KiSystemServiceCopyEnd"});
}

VirtAddr Machine::add_critical_section(VirtAddr owner) {
  const VirtAddr process(get(owner, "_KTHREAD", has("_KTHREAD", "Process") ? "Process" : "ApcState.Process"));
  const PhysAddr tables(get(process, "_KPROCESS", "DirectoryTableBase"));
  const VirtAddr c = alloc_user(process, 0x1000) + 0x120;
  memory_.put<u64>(c, ~u64{0}, tables);  // DebugInfo
  memory_.put<i32>(c + 8, -2, tables);   // LockCount
  memory_.put<i32>(c + 12, 1, tables);   // RecursionCount
  memory_.put<u64>(c + 16, get(owner, "_ETHREAD", "Cid.UniqueThread"), tables);
  return c;
}

void Machine::wait_for_critical_section(VirtAddr thread, VirtAddr c, u32 ticks) {
  const VirtAddr process(
      get(thread, "_KTHREAD", has("_KTHREAD", "Process") ? "Process" : "ApcState.Process"));
  const PhysAddr tables(get(process, "_KPROCESS", "DirectoryTableBase"));
  memory_.put<i32>(c + 8, memory_.get<i32>(c + 8, tables) - 4, tables);
  give_user_stack(thread, {0x1234, c.value(), 7});
  // Since Windows 8 a thread is woken by its id and waits for no object.
  if (layout_->build_number() >= 9200)
    block(thread, 37, {}, ticks,
          {"nt!KeWaitForAlertByThreadId", "nt!NtWaitForAlertByThreadId", "nt!KiSystemServiceCopyEnd"});
  else
    block(thread, 6, {add_event()}, ticks,
          {"nt!KeWaitForSingleObject", "nt!NtWaitForSingleObject", "nt!KiSystemServiceCopyEnd"});
}

VirtAddr Machine::add_alpc_port(VirtAddr server, const std::string& path) {
  const VirtAddr port = object("ALPC Port", size("_ALPC_PORT"), path), info = alloc(0x80);
  memory_.put(info, port);
  set(port, "_ALPC_PORT", "CommunicationInfo", info.value());
  set(port, "_ALPC_PORT", "OwnerProcess", server.value());
  for (const char* queue : {"MainQueue", "LargeMessageQueue", "PendingQueue", "WaitQueue"})
    init_list(port + offset("_ALPC_PORT", queue));
  return port;
}

VirtAddr Machine::wait_for_reply(VirtAddr thread, VirtAddr port, VirtAddr server, u32 ticks) {
  const VirtAddr m = alloc(size("_KALPC_MESSAGE"));
  set(m, "_KALPC_MESSAGE", "WaitingThread", thread.value());
  set(m, "_KALPC_MESSAGE", "ServerThread", server.value());
  set(m, "_KALPC_MESSAGE", "PortQueue", port.value());
  set(m, "_KALPC_MESSAGE", "ConnectionPort", port.value());
  set(m, "_KALPC_MESSAGE", "PortMessage.MessageId", 0x1a4);
  insert_tail(port + offset("_ALPC_PORT", server.is_null() ? "MainQueue" : "PendingQueue"),
              m + offset("_KALPC_MESSAGE", "Entry"));
  set(thread, "_ETHREAD", "AlpcMessage", m.value());
  const VirtAddr semaphore = thread + offset("_ETHREAD", "AlpcWaitSemaphore");
  init_event(semaphore, 5);
  block(thread, 17, {semaphore}, ticks,
        {"nt!KeWaitForSingleObject", "nt!AlpcpSignalAndWait", "nt!AlpcpReceiveSynchronousReply",
         "nt!NtAlpcSendWaitReceivePort", "nt!KiSystemServiceCopyEnd"});
  return m;
}

VirtAddr Machine::add_work_queue() {
  const VirtAddr q = alloc(size("_EX_WORK_QUEUE"));
  const bool priority = has("_EX_WORK_QUEUE", "WorkPriQueue");
  set(q, "_DISPATCHER_HEADER", "Type", priority ? 21 : 4);
  init_list(q + offset("_DISPATCHER_HEADER", "WaitListHead"));
  if (priority)
    for (u64 i = 0; i < 32; i++) init_list(q + offset("_KPRIQUEUE", "EntryListHead") + i * 16);
  else
    init_list(q + offset("_KQUEUE", "EntryListHead"));
  return q;
}

void Machine::bind_worker(VirtAddr queue, VirtAddr thread) {
  set(thread, "_KTHREAD", "Queue", queue.value());
}

VirtAddr Machine::queue_item(VirtAddr queue, const std::string& routine, u64 parameter) {
  const VirtAddr item = alloc(size("_WORK_QUEUE_ITEM"));
  set(item, "_WORK_QUEUE_ITEM", "WorkerRoutine", address_of(routine).value());
  set(item, "_WORK_QUEUE_ITEM", "Parameter", parameter);
  const bool priority = has("_EX_WORK_QUEUE", "WorkPriQueue");
  insert_tail(queue + (priority ? offset("_KPRIQUEUE", "EntryListHead") + 12 * 16
                                : offset("_KQUEUE", "EntryListHead")),
              item + offset("_WORK_QUEUE_ITEM", "List"));
  return item;
}

VirtAddr Machine::add_resource() {
  const VirtAddr r = alloc(size("_ERESOURCE"));
  insert_tail(symbol("ExpSystemResourcesList"), r + offset("_ERESOURCE", "SystemResourcesList"));
  return r;
}

void Machine::own_exclusive(VirtAddr r, VirtAddr thread) {
  set(r, "_ERESOURCE", "Flag", 0x80);
  set(r, "_ERESOURCE", "ActiveCount", 1);
  set(r, "_ERESOURCE", "ActiveEntries", 1);
  set(r, "_ERESOURCE", "OwnerEntry.OwnerThread", thread.value());
  set(r, "_ERESOURCE", "OwnerEntry.OwnerCount", 1);
}

void Machine::own_shared(VirtAddr r, const std::vector<VirtAddr>& threads) {
  set(r, "_ERESOURCE", "ActiveCount", threads.size());
  set(r, "_ERESOURCE", "ActiveEntries", threads.size());
  const u64 entry = size("_OWNER_ENTRY");
  const VirtAddr table = alloc(entry * (threads.size() + 2));
  set(table, "_OWNER_ENTRY", "TableSize", threads.size() + 2);
  for (size_t i = 0; i < threads.size(); i++) {
    set(table + (i + 1) * entry, "_OWNER_ENTRY", "OwnerThread", threads[i].value());
    set(table + (i + 1) * entry, "_OWNER_ENTRY", "OwnerCount", 1);
  }
  set(r, "_ERESOURCE", "OwnerTable", table.value());
}

void Machine::wait_for_resource(VirtAddr thread, VirtAddr r, bool exclusive, u32 ticks, const Labels& below) {
  const char* member = exclusive ? "ExclusiveWaiters" : "SharedWaiters";
  const char* count = exclusive ? "NumberOfExclusiveWaiters" : "NumberOfSharedWaiters";
  const auto field = layout_->field("_ERESOURCE", member);
  UNHANG_CHECK(field.has_value());
  const std::string type = layout_->describe(field->type);
  VirtAddr object;
  const VirtAddr first(get(r, "_ERESOURCE", member));
  if (type.starts_with("Ptr64 _K")) {
    // One semaphore or event for all waiters.
    object = first;
    if (first.is_null()) {
      object = alloc(0x20);
      set(object, "_DISPATCHER_HEADER", "Type", exclusive ? 1 : 5);
      set(object, "_DISPATCHER_HEADER", "Size", exclusive ? 6 : 8);
      init_list(object + offset("_DISPATCHER_HEADER", "WaitListHead"));
      set(r, "_ERESOURCE", member, object.value());
    }
  } else if (type == "_KWAIT_CHAIN") {
    // 10.0.14393, shared: a single chain of entries on the waiters' stacks.
    const VirtAddr entry = stack_slot(thread, 0x20);
    memory_.put(entry, first);
    object = entry + offset("_KWAIT_CHAIN_ENTRY", "Event");
    set(r, "_ERESOURCE", member, entry.value());
  } else {
    // 10.0.17763 and later: a ring of entries on the waiters' stacks, entered at the first.
    const VirtAddr entry = stack_slot(thread, 0x30);
    if (first.is_null()) {
      init_list(entry);
      set(r, "_ERESOURCE", member, entry.value());
    } else {
      insert_tail(first, entry);
    }
    memory_.put(entry + 0x10, thread);
    object = entry + 0x18;
  }
  if (!type.starts_with("Ptr64 _K")) {
    set(object, "_DISPATCHER_HEADER", "Type", 1);
    set(object, "_DISPATCHER_HEADER", "Size", 6);
    init_list(object + offset("_DISPATCHER_HEADER", "WaitListHead"));
  }
  set(r, "_ERESOURCE", count, get(r, "_ERESOURCE", count) + 1);
  set(r, "_ERESOURCE", "ContentionCount", get(r, "_ERESOURCE", "ContentionCount") + 1);
  Labels stack{"nt!KeWaitForSingleObject", "nt!ExpWaitForResource",
               exclusive ? "nt!ExAcquireResourceExclusiveLite" : "nt!ExAcquireResourceSharedLite"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 27, {object}, ticks, stack);
}

void Machine::wait_for_mutant(VirtAddr thread, VirtAddr mutant, u32 ticks, const Labels& below) {
  Labels stack{"nt!KeWaitForSingleObject"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 6, {mutant}, ticks, stack);
}

void Machine::wait_for_fast_mutex(VirtAddr thread, VirtAddr mutex, u32 ticks, const Labels& below) {
  // wdm.h: FM_LOCK_WAITER_INC.
  set(mutex, "_FAST_MUTEX", "Count", static_cast<u32>(get(mutex, "_FAST_MUTEX", "Count")) + 4);
  Labels stack{"nt!KeWaitForSingleObject", "nt!ExpAcquireFastMutexContended", "nt!ExAcquireFastMutex"};
  stack.insert(stack.end(), below.begin(), below.end());
  block(thread, 34, {mutex + offset("_FAST_MUTEX", "Event")}, ticks, stack);
}

}  // namespace unhang::synth
