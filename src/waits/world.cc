#include "waits/world.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/format.h"
#include "nt/block_scan.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {
constexpr size_t kMostFilesOfResource = 16;
}

std::string_view name(WaitNature nature) {
  switch (nature) {
    case WaitNature::none:
      return "none";
    case WaitNature::lock:
      return "lock";
    case WaitNature::request:
      return "request";
    case WaitNature::io:
      return "io";
    case WaitNature::event:
      return "event";
    case WaitNature::idle:
      return "idle";
    case WaitNature::suspended:
      return "suspended";
  }
  return "none";
}

WaitNature ThreadNode::nature() const {
  // A thread that waits for several things at once waits for the most telling of them.
  static constexpr WaitNature kOrder[] = {WaitNature::suspended, WaitNature::lock, WaitNature::request,
                                          WaitNature::io,        WaitNature::idle, WaitNature::event};
  for (const WaitNature n : kOrder)
    for (const Wait& w : waits)
      if (w.nature == n) return n;
  return waiting() ? WaitNature::event : WaitNature::none;
}

World::World(const nt::Target& target)
    : target_(target), objects_(target), clock_(nt::read_clock(target)), stacks_(target) {
  if (!clock_.tick_count)
    gaps.push_back({"clock", hex(nt::kUserSharedData),
                    "KUSER_SHARED_DATA cannot be read: the latest wait is taken for the present, and all "
                    "waits may be longer than given"});
  read_processes();
  read_threads();
  read_stacks();
  read_irps();
  read_handles();
  read_files();
  tie_resources();
  find_waits(*this);
}

void World::read_processes() {
  nt::ProcessList list = nt::list_processes(target_);
  for (Gap& g : list.gaps) gaps.push_back(std::move(g));
  for (const VirtAddr va : list.processes) {
    auto p = nt::read_process(target_, va);
    if (!p) {
      gaps.push_back({"process", hex(va), text(p.error())});
      continue;
    }
    for (const Gap& g : p->gaps)
      gaps.push_back(
          {fmt::format("{} of process {} ({})", g.what, p->name, p->pid), g.where, g.why, g.minor});
    // The process that stands for what runs beside Windows where Windows cannot look (Windows 10 and later).
    constexpr u64 kSystem = 4;
    if (p->name == "Secure System" && p->parent_pid == kSystem)
      gaps.push_back(
          {"virtualization-based security", hex(va),
           "on (process Secure System): the memory of its secure kernel and of its trusted processes "
           "(LsaIso) is not in Windows' page tables",
           true});
    processes.push_back({.process = std::move(*p)});
    processes.back().idle_process = processes.back().process.pid == 0;
    processes.back().threads_torn = !processes.back().process.thread_walk.complete();
  }
}

void World::read_stacks() {
  size_t missing = 0;
  for (ThreadNode& t : threads) {
    t.stack = stacks_.make(t.thread);
    const bool has_one = t.thread.state != nt::ThreadState::terminated &&
                         t.thread.state != nt::ThreadState::initialized && t.thread.stack_resident;
    if (has_one && !t.on_cpu() &&
        (t.stack.kernel_stop == stack::StackEnd::unreadable ||
         t.stack.kernel_stop == stack::StackEnd::no_context))
      missing++;
  }
  if (missing != 0)
    gaps.push_back({"kernel stacks", "",
                    fmt::format("those of {} cannot be read: what only they tell is not seen",
                                counted(missing, "thread", "threads"))});
}

const World::DeviceName& World::device_name(VirtAddr device, VirtAddr irp) {
  const auto [it, added] = device_names_.try_emplace(device);
  if (!added) return it->second;
  if (const auto d = nt::read_device(target_, objects_, device)) {
    it->second = {d->driver_name, d->name, d->type};
  } else {
    gaps.push_back({fmt::format("device of IRP {}", irp), hex(device), text(d.error())});
    it->second.driver = nt::driver_name_of_device(target_, device);
  }
  return it->second;
}

void World::add_irp(size_t thread_number, VirtAddr va) {
  ThreadNode& t = threads[thread_number];
  auto irp = nt::read_irp(target_, va);
  if (!irp) {
    gaps.push_back(
        {fmt::format("IRP of thread {}.{}", t.thread.pid, t.thread.tid), hex(va), text(irp.error())});
    return;
  }
  IrpNode node{.irp = std::move(*irp)};
  // One that is not sent yet, or completed, has no current location: its top one says what it is about.
  const nt::IrpStackLocation* at = node.irp.current();
  if (at == nullptr && !node.irp.locations.empty()) at = &node.irp.locations.back();
  if (at != nullptr) {
    node.major = nt::major_name(at->major);
    node.minor = nt::minor_name(at->major, at->minor);
    node.driver_device = at->device;
    node.file_object = at->file;
    if (is_kernel(at->device)) {
      const DeviceName& d = device_name(at->device, va);
      node.driver = d.driver;
      node.device_name = d.name;
      node.device_type = d.type;
    }
  }
  if (!is_kernel(node.file_object)) node.file_object = node.irp.original_file;
  t.irps.push_back(irps.size());
  irps.push_back(std::move(node));
}

void World::read_irps_of(size_t thread_number) {
  for (const VirtAddr va : nt::irps_of_links(target_, threads[thread_number].thread.irps))
    add_irp(thread_number, va);
}

void World::read_irps() {
  for (size_t i = 0; i < threads.size(); i++) read_irps_of(i);
  // Blocks of memory without the lists: requests by their shape, of threads that are known.
  for (const VirtAddr va : nt::scan_blocks(target_).irps) {
    const VirtAddr owner = nt::Object(target_, va).value_or(nt::IRP::Thread, {});
    const bool known =
        std::any_of(irps.begin(), irps.end(), [&](const IrpNode& i) { return i.irp.address == va; });
    if (known || find_or_adopt(owner) == nullptr) continue;
    add_irp(thread_index_.at(owner), va);
  }
}

void World::read_handles() {
  for (ProcessNode& p : processes) {
    if (!is_kernel(p.process.object_table)) continue;
    nt::HandleWalk walk = objects_.handles(p.process.object_table);
    for (const Gap& g : walk.gaps)
      gaps.push_back(
          {fmt::format("{} of process {} ({})", g.what, p.process.name, p.process.pid), g.where, g.why});
    p.handles = std::move(walk.handles);
  }
}

void World::adopt_file(VirtAddr va) {
  if (!is_kernel(va) || files.contains(va)) return;
  auto f = nt::read_file_object(target_, objects_, va);
  if (!f) return;
  const VirtAddr related = f->related;
  files.emplace(va, FileInfo{.file = std::move(*f)});
  if (is_kernel(related)) adopt_file(related);
}

// Every file object that handles and IRPs lead to.
void World::read_files() {
  for (size_t i = 0; i < processes.size(); i++)
    for (const nt::Handle& h : processes[i].handles) {
      // The two bytes of the type come before the object manager's opinion: they work without symbols too.
      if (!files.contains(h.object) && !nt::is_file_object(target_, h.object)) continue;
      const auto info = objects_.info(h.object);
      if (!info || (!info->type.empty() && info->type != "File")) continue;
      adopt_file(h.object);
      auto it = files.find(h.object);
      if (it == files.end()) continue;
      it->second.handles++;
      if (it->second.processes.empty() || it->second.processes.back() != i) it->second.processes.push_back(i);
    }
  for (IrpNode& irp : irps) add_files_of(irp);
}

void World::add_files_of(IrpNode& irp) {
  adopt_file(irp.irp.original_file);
  for (const nt::IrpStackLocation& l : irp.irp.locations) adopt_file(l.file);
  adopt_file(irp.file_object);
  const auto it = files.find(irp.file_object);
  if (it == files.end()) return;
  irp.file = it->second.file.full_path();
  if (const nt::IrpStackLocation* at = irp.irp.current(); at != nullptr && at->major == nt::kMjCreate)
    it->second.opening = true;
}

std::optional<size_t> World::adopt_irp(size_t thread, VirtAddr va) {
  for (const size_t i : threads[thread].irps)
    if (irps[i].irp.address == va) return i;
  const size_t before = irps.size();
  add_irp(thread, va);
  if (irps.size() == before) return std::nullopt;
  add_files_of(irps.back());
  return before;
}

void World::tie_resources() {
  for (const auto& [va, info] : files) {
    const auto h = nt::read_fcb_header(target_, info.file.fs_context);
    if (!h) continue;
    for (const VirtAddr resource : {h->resource, h->paging_io_resource})
      if (is_kernel(resource)) resource_files_[resource].push_back(va);
  }
}

std::vector<std::string> World::files_of_resource(VirtAddr resource) const {
  std::vector<std::string> paths;
  const auto it = resource_files_.find(resource);
  if (it == resource_files_.end()) return paths;
  // Files that are only being opened say what the resource guards as a last resort: their directory.
  std::set<std::string> open, parents;
  for (const VirtAddr va : it->second) {
    const FileInfo& info = files.at(va);
    const std::string path = info.file.full_path();
    if (path.empty()) continue;
    if (!info.opening)
      open.insert(path);
    else if (const auto end = path.find_last_of('\\'); end != path.npos && end != 0)
      parents.insert(path.substr(0, end));
  }
  const std::set<std::string>& seen = open.empty() ? parents : open;
  paths.assign(seen.begin(), seen.end());
  std::stable_sort(paths.begin(), paths.end(),
                   [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
  if (paths.size() > kMostFilesOfResource) paths.resize(kMostFilesOfResource);
  return paths;
}

std::vector<VirtAddr> World::file_resources() const {
  std::vector<VirtAddr> out;
  for (const auto& [resource, list] : resource_files_) out.push_back(resource);
  std::sort(out.begin(), out.end());
  return out;
}

const ThreadNode* World::thread(VirtAddr va) const {
  const auto it = thread_index_.find(va);
  return it == thread_index_.end() ? nullptr : &threads[it->second];
}

ThreadNode* World::thread(VirtAddr va) {
  return const_cast<ThreadNode*>(std::as_const(*this).thread(va));
}

const ProcessNode* World::process_of(const ThreadNode& t) const {
  return t.process < processes.size() ? &processes[t.process] : nullptr;
}

const ThreadNode* World::thread_by_id(size_t process, u64 tid) const {
  if (process >= processes.size()) return nullptr;
  for (const size_t i : processes[process].threads)
    if (threads[i].thread.tid == tid) return &threads[i];
  return nullptr;
}

const Lock* World::lock(VirtAddr va, VirtAddr near) const {
  VirtAddr process;
  if (const ThreadNode* t = is_kernel(va) ? nullptr : thread(near)) process = t->thread.process;
  return lock_in(process, va);
}

const Lock* World::lock_in(VirtAddr process, VirtAddr va) const {
  const auto it = lock_index_.find({process, va});
  return it == lock_index_.end() ? nullptr : &locks[it->second];
}

std::string World::who(VirtAddr va) const {
  const ThreadNode* t = thread(va);
  if (t == nullptr) return fmt::format("thread {}", va);
  const ProcessNode* p = process_of(*t);
  return fmt::format("{} {}.{}", p == nullptr ? "?" : p->process.name, t->thread.pid, t->thread.tid);
}

void World::add_wait(ThreadNode& t, Wait wait) {
  for (Wait& w : t.waits)
    if (w.object == wait.object) {
      if (w.nature == WaitNature::event || wait.nature == WaitNature::lock) w = std::move(wait);
      return;
    }
  t.waits.push_back(std::move(wait));
}

namespace {

// Whether a thread waits for any of several objects, the given one among them: no one of them is what it
// depends on. Its own timer, the time-out, is none of them.
bool one_of_several(const nt::Target& target, const ThreadNode& t, VirtAddr object) {
  constexpr u8 kWaitAny = 1;
  const auto timer = nt::Object(target, t.thread.address).address(nt::KTHREAD::Timer);
  bool named = false, others = false;
  for (const nt::WaitBlock& b : t.thread.wait_blocks) {
    if (b.wait_type != kWaitAny) return false;
    named |= b.object == object;
    others |= b.object != object && (!timer || b.object != *timer);
  }
  return named && others;
}

}  // namespace

void World::add_edge(Edge edge) {
  if (const ThreadNode* t = thread(edge.from);
      t != nullptr && one_of_several(target_, *t, edge.waited.is_null() ? edge.object : edge.waited))
    edge.confidence = weaker(edge.confidence, Confidence::heuristic);
  const auto [it, added] =
      edge_index_.try_emplace({edge.from.value(), edge.to.value(), edge.object.value()}, edges.size());
  if (added) {
    edges.push_back(std::move(edge));
    return;
  }
  // Two ways to the same statement: the surer one stays.
  Edge& known = edges[it->second];
  if (edge.confidence < known.confidence) known = std::move(edge);
}

Lock& World::add_lock(Lock lock) {
  const auto [it, added] = lock_index_.try_emplace({lock.process, lock.address}, locks.size());
  if (added) locks.push_back(std::move(lock));
  return locks[it->second];
}

}  // namespace unhang::waits
