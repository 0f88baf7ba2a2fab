// World: everything that the wait analysis looks at, read once from a target - processes, threads with their
// stacks, IRPs, files - and what the wait kinds find in it: locks, waits and edges.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/confidence.h"
#include "nt/objects/dispatcher.h"
#include "nt/objects/file_object.h"
#include "nt/objects/irp.h"
#include "nt/objects/object_header.h"
#include "nt/objects/process.h"
#include "nt/objects/thread.h"
#include "nt/objects/work_queue.h"
#include "nt/target.h"
#include "stack/thread_stack.h"

namespace unhang::waits {

struct ProcessNode {
  nt::Process process;
  std::vector<size_t> threads;  // indexes into World::threads
  std::vector<nt::Handle> handles;
  bool idle_process = false;
  bool threads_torn = false;  // some of its threads may be on no list that could be read
};

// Where a wait leads.
enum class WaitNature : u8 {
  none,     // not waiting
  lock,     // something that a thread holds
  request,  // another thread's answer or work: a message, a work item
  io,       // an I/O request that is under way
  event,    // somebody must signal it, nobody can say who
  idle,     // work to come: a queue, a timer, a message
  suspended,
};
std::string_view name(WaitNature nature);

// One thing that a thread waits for, as a wait kind understood it.
struct Wait {
  VirtAddr object{};
  std::string kind;  // "ERESOURCE", "Mutant", "SynchronizationEvent", "IRP" ...
  WaitNature nature = WaitNature::event;
  std::string detail;  // "exclusive access", "worker queue"
  Confidence confidence = Confidence::exact;
};

struct ThreadNode {
  nt::Thread thread;
  size_t process = SIZE_MAX;
  std::optional<u32> cpu;    // current on this processor
  bool idle_thread = false;  // a processor's idle thread
  stack::ThreadStack stack;
  std::vector<size_t> irps;  // indexes into World::irps
  std::vector<Wait> waits;   // filled by the wait kinds
  // The nature of the whole wait: the strongest of its parts.
  WaitNature nature() const;
  bool waiting() const { return thread.state == nt::ThreadState::waiting; }
  bool on_cpu() const { return cpu.has_value(); }
};

struct IrpNode {
  nt::Irp irp;
  VirtAddr driver_device{};  // device of the current stack location
  std::string driver;        // "\FileSystem\Ntfs"
  std::string device_name;
  u32 device_type = 0;
  std::string file;  // full path of the file it is about
  VirtAddr file_object{};
  std::string major, minor;
};

struct LockOwner {
  VirtAddr thread{};
  u64 tid = 0;  // of the owner of a user-mode lock when there is no such thread any more
  u32 count = 0;
  bool alive = true;  // a thread that has not ended
  Confidence confidence = Confidence::exact;
};

struct LockWaiter {
  VirtAddr thread{};
  const char* access = "";  // "exclusive", "shared"
  std::optional<u64> waited_ms;
};

struct Lock {
  VirtAddr address{};
  VirtAddr process{};  // of a user-mode lock: its address means nothing elsewhere
  const char* kind = "";
  std::string name;                   // symbol, or the object's name
  std::vector<std::string> protects;  // files and directories that it guards
  const char* mode = "free";          // "exclusive", "shared", "free"; empty: nothing says
  u32 contention = 0;
  std::vector<LockOwner> owners;
  std::vector<LockWaiter> waiters;
  std::vector<Gap> gaps;
  Confidence confidence = Confidence::exact;
};

// A thread that may be the one, and what speaks for it.
struct Candidate {
  VirtAddr thread{};
  std::string why;
  Confidence confidence = Confidence::heuristic;
};

// from waits for something that `to` must give back. to is null when nobody in the dump can be named; then
// candidates lists those that may be the one.
struct Edge {
  VirtAddr from{};
  VirtAddr to{};
  const char* kind = "";  // of the thing between them
  VirtAddr object{};      // its address
  Confidence confidence = Confidence::exact;
  std::string note;  // why it is not exact, or what was contradictory
  // One of several edges for the same object: any one of the threads at their ends can end the wait (workers
  // of a queue). Only all of them together can close a cycle.
  bool any_of = false;
  std::vector<Candidate> candidates;
  VirtAddr file{};    // file object whose data it is about, where that is known
  VirtAddr waited{};  // the dispatcher object that the thread waits for; null: object
};

// A queue that threads take work from.
struct QueueNode {
  nt::WorkQueue queue;
  std::string name;               // "Delayed WorkQueue"; "queue of svchost.exe (812)"
  bool executive = false;         // its workers are the System process's
  std::vector<VirtAddr> workers;  // bound to it
  std::vector<VirtAddr> idle;     // of them: wait for something to be queued
};

struct FileInfo {
  nt::FileObject file;
  std::vector<size_t> processes;  // that have it open by handle, as indexes
  u32 handles = 0;
  // A create request for it is under way: what its FsContext names, if anything, is its directory's.
  bool opening = false;
};

class World {
 public:
  // Reads everything and runs the wait kinds.
  explicit World(const nt::Target& target);

  const nt::Target& target() const { return target_; }
  const nt::ObjectManager& objects() const { return objects_; }
  const nt::Clock& clock() const { return clock_; }
  stack::StackMaker& stacks() { return stacks_; }

  std::vector<ProcessNode> processes;
  std::vector<ThreadNode> threads;
  std::vector<IrpNode> irps;
  std::unordered_map<VirtAddr, FileInfo> files;
  std::vector<Lock> locks;
  std::vector<QueueNode> queues;
  std::vector<Edge> edges;
  std::vector<Gap> gaps;

  const ThreadNode* thread(VirtAddr va) const;
  ThreadNode* thread(VirtAddr va);
  // The thread, read now when no list led to it: owners and waiters of locks, in dumps whose lists are
  // broken. Null when it is no thread. Invalidates pointers to other nodes.
  ThreadNode* find_or_adopt(VirtAddr va);
  // Whether an owner can still release what it holds: a thread that has not ended. A thread that has ended is
  // on no list; one whose page is missing from the dump may well live.
  bool alive(VirtAddr owner) const;
  // A request that no list led to, added as one of the thread's: its index in irps. Nothing when it cannot be
  // read.
  std::optional<size_t> adopt_irp(size_t thread, VirtAddr va);
  // The same for a file object, added to files when it is one.
  void adopt_file(VirtAddr va);
  const ProcessNode* process_of(const ThreadNode& thread) const;
  // The thread of a process by its id, as user-mode locks name their owners. Null when it is not there.
  const ThreadNode* thread_by_id(size_t process, u64 tid) const;
  // The lock at an address. Of a user-mode lock, thread is one that waits for it or holds it.
  const Lock* lock(VirtAddr va, VirtAddr thread) const;
  // The same by its process, null for the kernel's.
  const Lock* lock_in(VirtAddr process, VirtAddr va) const;
  // "php-cgi.exe 3536.3428" for reports; the address when the thread is unknown.
  std::string who(VirtAddr thread) const;

  // A wait kind adds what it found. A wait that is already there with the same object is replaced when the
  // new one knows more.
  void add_wait(ThreadNode& thread, Wait wait);
  void add_edge(Edge edge);
  // The lock at that address: the given one, or the one that was added before.
  Lock& add_lock(Lock lock);

  // Files that a resource guards: paths, shortest first.
  std::vector<std::string> files_of_resource(VirtAddr resource) const;
  // Every resource that a file leads to.
  std::vector<VirtAddr> file_resources() const;

 private:
  void read_processes();
  void read_threads();
  void read_stacks();
  void tell_age(nt::Thread& thread) const;
  void take_latest_wait_for_now();
  bool add_thread(VirtAddr va, size_t process);
  void complete_threads();
  void read_irps();
  void read_irps_of(size_t thread);
  void add_irp(size_t thread, VirtAddr va);
  void read_handles();
  void read_files();
  void add_files_of(IrpNode& irp);
  void tie_resources();

  const nt::Target& target_;
  nt::ObjectManager objects_;
  nt::Clock clock_;
  stack::StackMaker stacks_;
  std::unordered_map<VirtAddr, size_t> thread_index_;
  struct DeviceName {
    std::string driver, name;
    u32 type = 0;
  };
  const DeviceName& device_name(VirtAddr device, VirtAddr irp);
  std::map<VirtAddr, DeviceName> device_names_;
  std::map<std::pair<VirtAddr, VirtAddr>, size_t> lock_index_;          // process (null: kernel), address
  std::map<std::array<u64, 3>, size_t> edge_index_;                     // from, to, object
  std::unordered_map<VirtAddr, std::vector<VirtAddr>> resource_files_;  // resource -> file objects
};

}  // namespace unhang::waits
