// Processes, threads with their stacks, and the processors they run on.
#include <algorithm>

#include "synth/machine.h"

namespace unhang::synth {

namespace {
constexpr u64 kStackSize = 0x6000, kStackStride = 0x8000;
}  // namespace

VirtAddr Machine::write_stack(VirtAddr thread, const Labels& labels, u64 room) {
  const VirtAddr base(get(thread, "_KTHREAD", "StackBase"));
  VirtAddr sp = base - room - stack_used_[thread] - 0x10;
  memory_.put<u64>(sp, 0);  // return address 0 ends the walk
  // A function at the outer end that the processor entered: the machine frame lies above everything.
  u64 rbp = 0;
  for (size_t i = labels.size(); i-- > 0;) {
    address_of(labels[i]);
    const auto mark = labels[i].find('!');
    const Function f = module(labels[i].substr(0, mark)).image.function(labels[i].substr(mark + 1));
    if (f.shape.machine_frame) {
      // RIP CS EFLAGS RSP SS: of the interrupted kernel function, or of user code that is not in the dump.
      const bool kernel = i + 1 < labels.size();
      const VirtAddr interrupted = sp;
      if (labels[i] == "nt!KxRetireDpcList")
        sp = cpus_.at(get(thread, "_KTHREAD", "NextProcessor")).dpc_stack + 0x50;
      sp = sp - 0x28;
      memory_.put<u64>(sp, kernel ? address_of(labels[i + 1]).value() : 0x77a6002a);
      memory_.put<u64>(sp + 8, kernel ? 0x10 : 0x33);
      const auto user = user_sp_.find(thread);
      memory_.put<u64>(sp + 24, kernel                   ? interrupted.value()
                                : user == user_sp_.end() ? 0x21ed20
                                                         : user->second);
      memory_.put<u64>(sp + 32, kernel ? 0x18 : 0x2b);
    } else if (i + 1 < labels.size()) {
      sp = sp - 8;
      memory_.put(sp, address_of(labels[i + 1]));
    }
    if (f.shape.push_rbx) sp = sp - 8;
    if (f.shape.push_rbp_frame) {
      sp = sp - 8;
      memory_.put(sp, rbp);
    }
    sp = sp - f.shape.frame;
    if (f.shape.push_rbp_frame) rbp = sp.value() + 0x20;
  }
  // The registers that a frame pointer needs travel with the start of the stack.
  memory_.put(VirtAddr(base.value() - 0x10), rbp);
  return sp;
}

VirtAddr Machine::stack_slot(VirtAddr thread, u64 size) {
  u64& used = stack_used_[thread];
  used += (size + 15) & ~u64{15};
  return VirtAddr(get(thread, "_KTHREAD", "StackBase")) - 0x100 - used;
}

VirtAddr Machine::add_process(const std::string& name, u64 pid, std::optional<u32> session, u64 parent) {
  const VirtAddr p = object("Process", size("_EPROCESS"));
  set(p, "_DISPATCHER_HEADER", "Type", 3);
  init_list(p + offset("_DISPATCHER_HEADER", "WaitListHead"));
  const bool kernel_only = pid <= 4;
  const PhysAddr tables = kernel_only ? memory_.dtb() : memory_.new_process_tables();
  set(p, "_KPROCESS", "DirectoryTableBase", tables.value());
  set(p, "_EPROCESS", "UniqueProcessId", pid);
  set(p, "_EPROCESS", "InheritedFromUniqueProcessId", parent);
  set(p, "_EPROCESS", "CreateTime", 133'445'500'000'000'000 + pid);
  const std::string cut = name.substr(0, 14);
  memory_.write(p + offset("_EPROCESS", "ImageFileName"), cut.c_str(), cut.size() + 1);
  init_list(p + offset("_EPROCESS", "ThreadListHead"));
  if (has("_KPROCESS", "ThreadListHead")) init_list(p + offset("_KPROCESS", "ThreadListHead"));
  if (!kernel_only) {
    const VirtAddr image = alloc(16);
    set_string(image, "\\Device\\HarddiskVolume2\\Windows\\System32\\" + name);
    set(p, "_EPROCESS", "SeAuditProcessCreationInfo.ImageFileName", image.value());
  }
  if (session) {
    // MM_SESSION_SPACE lies at one address for all processes, mapped by each one's own tables.
    const VirtAddr space(0xffffb880'00000000 + *session * u64{0x100000});
    memory_.map(space, kPageSize);
    set(space, "_MM_SESSION_SPACE", "SessionId", *session);
    set(p, "_EPROCESS", "Session", space.value());
  }
  const VirtAddr table = alloc(size("_HANDLE_TABLE"));
  next_pool_ = VirtAddr((next_pool_.value() + kPageSize) & ~(kPageSize - 1)) - 16;
  const VirtAddr page = alloc(kPageSize);
  set(table, "_HANDLE_TABLE", "TableCode", page.value());
  set(table, "_HANDLE_TABLE", "NextHandleNeedingPool", 1024);
  set(table, "_HANDLE_TABLE", "QuotaProcess", kernel_only ? 0 : p.value());
  set(p, "_EPROCESS", "ObjectTable", table.value());
  handle_tables_[p] = page;
  sessions_[p] = session;
  if (pid != 0) insert_tail(symbol("PsActiveProcessHead"), p + offset("_EPROCESS", "ActiveProcessLinks"));
  return p;
}

VirtAddr Machine::add_thread(VirtAddr process, u64 tid) {
  const VirtAddr t = object("Thread", size("_ETHREAD"));
  const VirtAddr stack = next_stack_;
  next_stack_ += kStackStride;
  memory_.map(stack, kStackSize);
  set(t, "_DISPATCHER_HEADER", "Type", 6);
  init_list(t + offset("_DISPATCHER_HEADER", "WaitListHead"));
  set(t, "_KTHREAD", "StackBase", (stack + kStackSize).value());
  set(t, "_KTHREAD", "InitialStack", (stack + kStackSize).value());
  set(t, "_KTHREAD", "StackLimit", stack.value());
  set(t, "_KTHREAD", "KernelStack", (stack + kStackSize - 0x200).value());
  set(t, "_KTHREAD", "Process", process.value());
  set(t, "_KTHREAD", "ApcState.Process", process.value());
  set(t, "_KTHREAD", "KernelStackResident", 1);
  set(t, "_KTHREAD", "Priority", 8);
  set(t, "_KTHREAD", "BasePriority", 8);
  set(t, "_KTHREAD", "ContextSwitches", 100 + tid);
  set(t, "_ETHREAD", "Cid.UniqueProcess", get(process, "_EPROCESS", "UniqueProcessId"));
  set(t, "_ETHREAD", "Cid.UniqueThread", tid);
  init_list(t + offset("_KTHREAD", "MutantListHead"));
  init_list(t + offset("_ETHREAD", "IrpList"));
  insert_tail(process + offset("_EPROCESS", "ThreadListHead"), t + offset("_ETHREAD", "ThreadListEntry"));
  if (has("_KPROCESS", "ThreadListHead"))
    insert_tail(process + offset("_KPROCESS", "ThreadListHead"), t + offset("_KTHREAD", "ThreadListEntry"));
  return t;
}

void Machine::terminate(VirtAddr thread) {
  set(thread, "_KTHREAD", "State", 4);
}

void Machine::terminate_and_unlist(VirtAddr thread) {
  terminate(thread);
  for (const char* type : {"_ETHREAD", "_KTHREAD"}) {
    if (!has(type, "ThreadListEntry")) continue;
    const VirtAddr entry = thread + offset(type, "ThreadListEntry"), next = memory_.get<VirtAddr>(entry),
                   previous = memory_.get<VirtAddr>(entry + 8);
    memory_.put(previous, next);
    memory_.put(next + 8, previous);
  }
}

void Machine::make_ready(VirtAddr thread, u32 processor, u32 ticks_ago) {
  set(thread, "_KTHREAD", "State", 1);
  set(thread, "_KTHREAD", "NextProcessor", processor);
  set(thread, "_KTHREAD", "WaitTime", tick_count() - ticks_ago);
}

void Machine::wait_blocks(VirtAddr thread, const std::vector<VirtAddr>& objects) {
  const VirtAddr first = thread + offset("_KTHREAD", "WaitBlock");
  const u64 block_size = size("_KWAIT_BLOCK");
  set(thread, "_KTHREAD", "WaitBlockList", first.value());
  set(thread, "_KTHREAD", "WaitBlockCount", objects.size());
  for (size_t i = 0; i < objects.size(); i++) {
    const VirtAddr b = first + i * block_size;
    set(b, "_KWAIT_BLOCK", "Thread", thread.value());
    set(b, "_KWAIT_BLOCK", "Object", objects[i].value());
    set(b, "_KWAIT_BLOCK", "WaitType", 1);
    set(b, "_KWAIT_BLOCK", "BlockState", has("_KWAIT_BLOCK", "NextWaitBlock") ? 2 : 4);
    set(b, "_KWAIT_BLOCK", "NextWaitBlock", (first + (i + 1) % objects.size() * block_size).value());
    insert_tail(objects[i] + offset("_DISPATCHER_HEADER", "WaitListHead"), b);
  }
}

void Machine::block(VirtAddr thread, u8 reason, const std::vector<VirtAddr>& objects, u32 ticks,
                    const Labels& stack) {
  set(thread, "_KTHREAD", "State", 5);
  set(thread, "_KTHREAD", "WaitReason", reason);
  set(thread, "_KTHREAD", "WaitTime", tick_count() - ticks);
  wait_blocks(thread, objects);
  Labels whole{"nt!KiSwapContext", "nt!KiCommitThreadWait"};
  whole.insert(whole.end(), stack.begin(), stack.end());
  const VirtAddr sp = write_stack(thread, whole);
  const VirtAddr frame = sp - 0x40;  // KSWITCH_FRAME
  memory_.put(frame + 0x30, memory_.get<u64>(VirtAddr(get(thread, "_KTHREAD", "StackBase")) - 0x10));
  memory_.put(frame + 0x38, address_of(whole.front()));
  set(thread, "_KTHREAD", "KernelStack", frame.value());
}

void Machine::run(VirtAddr thread, u32 processor, const Labels& stack, u32 ticks) {
  CpuInfo& cpu = cpus_.at(processor);
  set(thread, "_KTHREAD", "WaitTime", tick_count() - ticks);
  set(thread, "_KTHREAD", "State", 2);
  set(thread, "_KTHREAD", "NextProcessor", processor);
  set(cpu.kprcb, "_KPRCB", "CurrentThread", thread.value());
  cpu.current = thread;
  const VirtAddr sp = write_stack(thread, stack);
  cpu.state.gpr[dump::rsp] = sp.value();
  cpu.state.gpr[dump::rbp] = memory_.get<u64>(VirtAddr(get(thread, "_KTHREAD", "StackBase")) - 0x10);
  cpu.state.rip = address_of(stack.front()).value();
}

void Machine::make_processors() {
  const VirtAddr idt = memory_.map(VirtAddr(0xfffff800'00b95000), kPageSize);
  const u64 handler = address_of("nt!KiDivideErrorFault").value();
  for (u64 v = 0; v < 256; v++) {
    memory_.put<u16>(idt + v * 16, static_cast<u16>(handler));
    memory_.put<u16>(idt + v * 16 + 2, 0x10);
    memory_.put<u16>(idt + v * 16 + 4, 0x8e00);
    memory_.put<u16>(idt + v * 16 + 6, static_cast<u16>(handler >> 16));
    memory_.put<u32>(idt + v * 16 + 8, static_cast<u32>(handler >> 32));
  }
  const u64 prcb_size = std::max<u64>(size("_KPRCB"), 0x100);
  for (u32 n = 0; n < options_.processors; n++) {
    CpuInfo cpu;
    cpu.kpcr = memory_.map(VirtAddr(0xfffff800'00d00000 + n * u64{0x20000}), 0x180 + prcb_size);
    cpu.kprcb = cpu.kpcr + 0x180;
    memory_.put(cpu.kpcr + 0x18, cpu.kpcr);
    memory_.put(cpu.kpcr + 0x20, cpu.kprcb);
    memory_.put<u32>(cpu.kprcb + 0x24, n);  // the partial layouts lack these three; they never moved
    cpu.idle_thread = add_thread(idle_, 0);
    memory_.put(cpu.kprcb + 0x18, cpu.idle_thread);
    memory_.put(symbol("KiProcessorBlock") + n * u64{8}, cpu.kprcb);
    dump::CpuState& s = cpu.state;
    s.has_control = true;
    s.cs.selector = 0x10;
    s.ss.selector = 0x18;
    s.rflags = 0x246;
    s.gs.base = cpu.kpcr.value();
    s.kernel_gs_base = 0x7fffffd8000;
    s.idt.base = idt.value();
    s.cr0 = 0x80050033;
    s.cr3 = memory_.dtb().value();
    s.cr4 = options_.levels == 5 ? 0x16f8 : 0x6f8;
    cpus_.push_back(cpu);
    constexpr u64 kDpcStack = 0x6000;
    cpu.dpc_stack =
        memory_.map(VirtAddr(0xfffff800'00e00000 + n * u64{0x10000}), kDpcStack) + (kDpcStack - 0x50);
    if (has("_KPRCB", "DpcStack")) set(cpu.kprcb, "_KPRCB", "DpcStack", cpu.dpc_stack.value());
    cpus_.back().dpc_stack = cpu.dpc_stack;
    memory_.put(cpu.kprcb + 8, cpu.idle_thread);
    run(cpu.idle_thread, n, {"nt!KiIdleLoop"});
  }
  memory_.put<u32>(symbol("KeNumberProcessors"), options_.processors);
}

void Machine::suspend(VirtAddr thread, u32 ticks, const Labels& stack) {
  const VirtAddr event = has("_KTHREAD", "SuspendEvent") ? thread + offset("_KTHREAD", "SuspendEvent")
                                                         : thread + offset("_KTHREAD", "SuspendSemaphore");
  init_event(event, has("_KTHREAD", "SuspendEvent") ? 1 : 5);
  set(thread, "_KTHREAD", "SuspendCount", 1);
  Labels whole{"nt!KeWaitForSingleObject", "nt!KiSchedulerApc", "nt!KiDeliverApc"};
  whole.insert(whole.end(), stack.begin(), stack.end());
  block(thread, 5, {event}, ticks, whole);
}

VirtAddr Machine::keep_on_stack(VirtAddr thread, u64 value) {
  const VirtAddr slot = stack_slot(thread, 16);
  memory_.put<u64>(slot, value);
  return slot;
}

VirtAddr Machine::keep_on_dpc_stack(u32 processor) {
  CpuInfo& cpu = cpus_.at(processor);
  cpu.dpc_stack = cpu.dpc_stack - 16;
  if (has("_KPRCB", "DpcStack")) set(cpu.kprcb, "_KPRCB", "DpcStack", cpu.dpc_stack.value());
  return cpu.dpc_stack + 0x50;
}

VirtAddr Machine::alloc_user(VirtAddr process, u64 size) {
  const PhysAddr tables(get(process, "_KPROCESS", "DirectoryTableBase"));
  u64& next = next_user_.try_emplace(process, 0x1'4000'0000).first->second;
  const VirtAddr at = memory_.map(VirtAddr(next), size, tables);
  next += (size + 0xffff) & ~u64{0xffff};
  return at;
}

void Machine::give_user_stack(VirtAddr thread, const std::vector<u64>& values) {
  const VirtAddr process(
      get(thread, "_KTHREAD", has("_KTHREAD", "Process") ? "Process" : "ApcState.Process"));
  const PhysAddr tables(get(process, "_KPROCESS", "DirectoryTableBase"));
  const VirtAddr teb = alloc_user(process, 0x2000), stack = alloc_user(process, 0x4000);
  set(thread, "_KTHREAD", "Teb", teb.value());
  memory_.put<u64>(teb + 8, stack.value() + 0x4000, tables);
  memory_.put<u64>(teb + 16, stack.value(), tables);
  const VirtAddr sp = stack + 0x3800;
  for (size_t i = 0; i < values.size(); i++) memory_.put<u64>(sp + 0x40 + i * 0x18, values[i], tables);
  user_sp_[thread] = sp.value();
}

}  // namespace unhang::synth
