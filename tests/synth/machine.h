// A Windows machine made for a test: kernel structures laid out as a given build has them, in guest memory
// with page tables, with stacks made of function names. Tests describe a situation; the machine writes the
// bytes.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dump/dump_file.h"
#include "symbols/layout.h"
#include "synth/image.h"
#include "synth/memory.h"

namespace unhang::synth {

// The builds whose layouts are built in.
std::vector<std::string> build_names();

struct MachineOptions {
  std::string build = "10.0.19041.804";  // a built-in layout
  u32 processors = 2;
  bool encode_kdbg = false;  // as Windows 8 and later keep it; needs symbols to read
  bool exports = true;       // nt exports its functions
  int levels = 4;
  // Members of a type at or behind `from` lie `by` bytes farther than in the layout: another patch level.
  struct Moved {
    const char* type;
    u32 from;
    i32 by;
  };
  std::vector<Moved> moved;
};

using Labels = std::vector<std::string>;  // "nt!KeWaitForSingleObject", innermost first

class Machine {
 public:
  static constexpr u32 kIncrement = 156250;  // 100 ns units per tick

  explicit Machine(MachineOptions options = {});

  const symbols::Layout& layout() const { return *layout_; }
  Memory& memory() { return memory_; }
  const MachineOptions& options() const { return options_; }

  // ---- raw structures ----
  std::optional<symbols::Field> field(const char* type, const char* path) const;
  std::optional<symbols::Field> unmoved_field(const char* type, const char* path) const;
  bool has(const char* type, const char* path) const;
  u32 offset(const char* type, const char* path) const;
  u32 size(const char* type) const;
  // Writes a member with the size and the bits that the layout gives it. Members that the build lacks are
  // skipped.
  void set(VirtAddr object, const char* type, const char* path, u64 value);
  u64 get(VirtAddr object, const char* type, const char* path);
  std::optional<u32> session(VirtAddr process) const { return sessions_.at(process); }
  VirtAddr alloc(u64 size);
  void init_list(VirtAddr head);
  void insert_tail(VirtAddr head, VirtAddr entry);
  void set_string(VirtAddr unicode_string, const std::string& text);

  // ---- objects ----
  // With an OBJECT_HEADER of that type; a name puts it into a directory ("\\Device\\HarddiskVolume2").
  VirtAddr object(const std::string& type, u64 body_size, const std::string& path = "");
  VirtAddr add_module(const std::string& file, const Labels& functions = {});
  VirtAddr add_driver(const std::string& path);
  VirtAddr add_device(VirtAddr driver, u32 device_type, const std::string& name = "");
  void attach(VirtAddr upper, VirtAddr lower);
  VirtAddr add_file(const std::string& path, VirtAddr fs_context = {});
  // FSRTL_ADVANCED_FCB_HEADER with a resource of its own.
  VirtAddr add_fcb(VirtAddr resource);
  VirtAddr add_handle(VirtAddr process, VirtAddr object, u32 access = 0x12019f);

  VirtAddr add_process(const std::string& name, u64 pid, std::optional<u32> session = 0, u64 parent = 4);
  VirtAddr add_thread(VirtAddr process, u64 tid);
  void terminate(VirtAddr thread);
  // Terminated, and taken off its process's lists: as a thread whose object others still refer to.
  void terminate_and_unlist(VirtAddr thread);
  void make_ready(VirtAddr thread, u32 processor, u32 ticks_ago = 0);
  // A thread that waits for dispatcher objects since `ticks` ticks.
  void block(VirtAddr thread, u8 reason, const std::vector<VirtAddr>& objects, u32 ticks,
             const Labels& stack);
  // Running since it last waited, `ticks` ago.
  void run(VirtAddr thread, u32 processor, const Labels& stack, u32 ticks = 0);
  void suspend(VirtAddr thread, u32 ticks, const Labels& stack);
  // A user stack with these values on it, and a TEB; before the thread blocks or runs.
  void give_user_stack(VirtAddr thread, const std::vector<u64>& values);
  // A value that the thread keeps on its kernel stack; before it blocks or runs. Where it lies.
  VirtAddr keep_on_stack(VirtAddr thread, u64 value);
  // 16 bytes on the stack on which a processor runs deferred procedures. A stack goes over to that one inside
  // of "nt!KxRetireDpcList".
  VirtAddr keep_on_dpc_stack(u32 processor);
  // Bytes of a process's own, at a user address.
  VirtAddr alloc_user(VirtAddr process, u64 size);

  VirtAddr add_event(bool synchronization = true);
  VirtAddr add_mutant(VirtAddr owner);
  VirtAddr add_queue();
  VirtAddr add_fast_mutex(VirtAddr owner);  // KGUARDED_MUTEX where the build has it
  // A place of 16 bytes in the queue of a spin lock (KLOCK_QUEUE_HANDLE): the first one owns it, the others
  // wait.
  void queue_for_spin_lock(VirtAddr lock, VirtAddr place);
  VirtAddr add_push_lock();
  void own_push_lock(VirtAddr lock, VirtAddr thread);  // before the thread blocks or runs
  void wait_for_push_lock(VirtAddr thread, VirtAddr lock, u32 ticks, const Labels& below = {});
  // For an event on its own stack; where it lies.
  VirtAddr wait_for_event_on_stack(VirtAddr thread, u32 ticks, const Labels& below);
  // For its own timer, which was due `overdue` ticks ago.
  void wait_for_timer(VirtAddr thread, u32 ticks, u32 overdue);
  VirtAddr add_critical_section(VirtAddr owner);
  void wait_for_critical_section(VirtAddr thread, VirtAddr section, u32 ticks);
  VirtAddr add_alpc_port(VirtAddr server, const std::string& path);
  // server: the thread that took the message; null: it lies in the port's queue.
  VirtAddr wait_for_reply(VirtAddr thread, VirtAddr port, VirtAddr server, u32 ticks);
  // An executive work queue, and threads bound to it.
  VirtAddr add_work_queue();
  void bind_worker(VirtAddr queue, VirtAddr thread);
  VirtAddr queue_item(VirtAddr queue, const std::string& routine, u64 parameter);
  VirtAddr add_resource();
  void own_exclusive(VirtAddr resource, VirtAddr thread);
  void own_shared(VirtAddr resource, const std::vector<VirtAddr>& threads);
  void wait_for_resource(VirtAddr thread, VirtAddr resource, bool exclusive, u32 ticks,
                         const Labels& below = {});
  void wait_for_mutant(VirtAddr thread, VirtAddr mutant, u32 ticks, const Labels& below = {});
  void wait_for_fast_mutex(VirtAddr thread, VirtAddr mutex, u32 ticks, const Labels& below = {});

  struct IrpStep {
    VirtAddr device{};
    u8 major = 0, minor = 0;
    VirtAddr file{};
    VirtAddr completion{}, context{};
    u8 control = 0;
  };
  // steps: from the top of the stack down; the last one is current. slots: stack locations in all.
  // listed: on the thread's list, as all but paging requests are.
  VirtAddr add_irp(VirtAddr thread, const std::vector<IrpStep>& steps, u32 slots = 9,
                   VirtAddr user_event = {}, bool listed = true);
  // A thread that waits for an IRP of its own through an event on its stack.
  VirtAddr wait_for_io(VirtAddr thread, const std::vector<IrpStep>& steps, u32 ticks,
                       const Labels& below = {});

  // ---- the usual machine ----
  VirtAddr system_process() const { return system_; }
  VirtAddr ntfs_device() const { return ntfs_device_; }
  VirtAddr disk_device() const { return disk_device_; }
  VirtAddr port_device() const { return port_device_; }
  VirtAddr filter_device() const { return filter_device_; }
  VirtAddr pipe_device() const { return pipe_device_; }
  VirtAddr redirector_device();
  VirtAddr kprcb(u32 processor) const { return cpus_.at(processor).kprcb; }
  dump::CpuState& registers(u32 processor) { return cpus_.at(processor).state; }
  u32 tick_count() const { return 10'000'000; }

  // ---- the result ----
  // Where the labels of a stack lie: "nt!Foo" -> the return address in it.
  VirtAddr address_of(const std::string& label);
  VirtAddr symbol(const std::string& name);  // nt's data
  dump::DumpFile dump();
  // A layout file with this machine's types and nt's symbols: what an import of its PDB would give.
  std::vector<u8> symbols();
  const image::PdbId& pdb() const { return pdb_; }

 private:
  struct ModuleInfo {
    std::string file, name;
    VirtAddr base;
    ImageBuilder image;
  };
  struct CpuInfo {
    VirtAddr kpcr, kprcb, idle_thread, current, dpc_stack;
    dump::CpuState state;
  };
  ModuleInfo& module(const std::string& name);
  VirtAddr type_object(const std::string& name);
  VirtAddr directory(const std::string& path);
  void insert_named(VirtAddr directory, VirtAddr object);
  void make_types();
  void make_devices();
  void make_processors();
  // Writes the frames of a stack that ends at the top of the thread's; returns RSP in the innermost function.
  VirtAddr write_stack(VirtAddr thread, const Labels& labels, u64 room_above = 0x100);
  void wait_blocks(VirtAddr thread, const std::vector<VirtAddr>& objects);
  VirtAddr stack_slot(VirtAddr thread, u64 size);
  void add_lock_entry(VirtAddr thread, VirtAddr lock, bool acquired);
  void init_event(VirtAddr event, u8 type = 1);
  void put_kdbg();
  // Puts a module on the loader's list unless it is there.
  void list_module(ModuleInfo& module);

  MachineOptions options_;
  std::shared_ptr<const symbols::Layout> layout_, neighbour_;
  Memory memory_;
  image::PdbId pdb_;
  VirtAddr next_pool_, next_stack_, next_module_;
  std::vector<std::unique_ptr<ModuleInfo>> modules_;
  std::map<std::string, u8> types_;
  std::map<std::string, VirtAddr> type_objects_, named_;
  std::map<VirtAddr, VirtAddr> owner_tables_;  // resource -> table
  std::map<VirtAddr, u64> stack_used_;         // thread -> bytes taken below its stack's base
  std::map<VirtAddr, VirtAddr> handle_tables_;
  std::map<VirtAddr, std::optional<u32>> sessions_;
  std::map<VirtAddr, u64> next_handle_;
  std::map<VirtAddr, u64> user_sp_, next_user_, lock_entries_;  // by thread, process, thread
  std::set<VirtAddr> listed_;
  std::vector<CpuInfo> cpus_;
  VirtAddr system_{}, idle_{}, root_{};
  VirtAddr ntfs_device_{}, disk_device_{}, port_device_{}, filter_device_{}, pipe_device_{}, volume_device_{},
      vpb_{};
  std::map<std::string, VirtAddr> drivers_;
  u8 cookie_ = 0;
  bool has_cookie_ = false;
};

}  // namespace unhang::synth
