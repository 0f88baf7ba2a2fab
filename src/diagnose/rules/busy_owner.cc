// Threads queue behind a lock whose owner works: it runs, it is about to run, or its waiters wait only
// shortly while the lock changes hands all the time. Not deadlocked: busy. With what? The owner's IRP and
// stack tell, and where it works on a directory, what fills that directory.
#include <algorithm>
#include <map>
#include <set>

#include "base/format.h"
#include "diagnose/rule.h"
#include "nt/objects/irp.h"
#include "waits/io_class.h"
#include "waits/spin.h"

namespace unhang::diagnose {

namespace {

// A healthy machine has locks with a waiter for a moment. These say that it is more than a moment.
constexpr u64 kSomewhatLongMs = 100, kShortMs = 200, kLongMs = 1000;
constexpr size_t kSeveral = 3;
constexpr u32 kHugeContention = 1'000'000;

bool runnable(const ThreadNode& t) {
  switch (t.thread.state) {
    case nt::ThreadState::running:
    case nt::ThreadState::ready:
    case nt::ThreadState::standby:
    case nt::ThreadState::deferred_ready:
      return true;
    default:
      return t.on_cpu();
  }
}

// For how long a thread has been ready without getting a processor: since WaitTime, which the scheduler sets
// then too. Nothing when that is a moment, as for every thread in turn.
std::optional<u64> starved_ms(const Context& c, const ThreadNode& t) {
  if (t.on_cpu() || t.thread.state != nt::ThreadState::ready || !t.thread.ticks) return std::nullopt;
  const u64 ms = c.world.clock().ms(*t.thread.ticks);
  return ms >= kLongMs ? std::optional(ms) : std::nullopt;
}

// "CPU 0 runs svchost.exe 1200.1204 (priority 9), CPU 1 is idle".
std::string what_runs(const Context& c) {
  std::string s;
  for (const nt::Cpu& cpu : c.world.target().cpus()) {
    const ThreadNode* t = c.world.thread(cpu.current_thread);
    if (t == nullptr) continue;
    s += fmt::format("{}CPU {} {}", s.empty() ? "" : ", ", cpu.number,
                     waits::in_deferred_procedure(c.world, *t) ? "is in a deferred procedure (DPC)"
                     : t->idle_thread ? "is idle"
                                      : fmt::format("runs {} (priority {})", c.who(cpu.current_thread),
                                                    t->thread.priority));
  }
  return s;
}

std::string parent_of(const std::string& path) {
  const auto at = path.find_last_of('\\');
  return at == path.npos || at == 0 ? std::string() : path.substr(0, at);
}

std::string last_of(const std::string& path) {
  return path.substr(path.find_last_of('\\') + 1);
}

// The file that a thread works on in a file system: from the IRP that it processes itself.
struct Work {
  const IrpNode* irp = nullptr;
  const waits::FileInfo* file = nullptr;
};

Work work_of(const Context& c, const ThreadNode& t) {
  for (const size_t i : t.irps) {
    const IrpNode& irp = c.world.irps[i];
    if (irp.irp.current() == nullptr) continue;
    const waits::IoClass cls = waits::io_class(irp);
    if (cls != waits::IoClass::file_system && cls != waits::IoClass::filter && cls != waits::IoClass::network)
      continue;
    const auto it = c.world.files.find(irp.file_object);
    return {&irp, it == c.world.files.end() ? nullptr : &it->second};
  }
  return {};
}

// Who holds files of a directory open or has requests for them under way, by process name.
std::vector<Holder> holders_of(const Context& c, const std::string& directory,
                               std::vector<std::string>& children) {
  std::map<std::string, Holder> by_name;
  std::map<std::string, std::set<size_t>> processes;
  const std::string prefix = directory + "\\";
  std::set<std::string> names;
  auto inside = [&](const std::string& path) {
    return path.size() > prefix.size() && path.starts_with(prefix) &&
           path.find('\\', prefix.size()) == path.npos;
  };
  for (const auto& [va, info] : c.world.files)
    if (inside(info.file.full_path())) names.insert(last_of(info.file.path));
  for (size_t i = 0; i < c.world.processes.size(); i++) {
    const ProcessNode& p = c.world.processes[i];
    for (const nt::Handle& h : p.handles) {
      const auto it = c.world.files.find(h.object);
      if (it == c.world.files.end() || !inside(it->second.file.full_path())) continue;
      by_name[p.process.name].handles++;
      processes[p.process.name].insert(i);
    }
  }
  for (const ThreadNode& t : c.world.threads)
    for (const size_t i : t.irps) {
      const ProcessNode* p = c.world.process_of(t);
      if (p == nullptr || !inside(c.world.irps[i].file)) continue;
      by_name[p->process.name].requests++;
      processes[p->process.name].insert(t.process);
    }
  children.assign(names.begin(), names.end());
  std::vector<Holder> out;
  for (auto& [name, h] : by_name) {
    h.process = name;
    h.processes = static_cast<u32>(processes[name].size());
    out.push_back(h);
  }
  std::stable_sort(out.begin(), out.end(), [](const Holder& a, const Holder& b) {
    return a.handles + a.requests > b.handles + b.requests;
  });
  return out;
}

// Which directory the owner works in, for requests that work on one: opening, renaming and deleting walk the
// directory of the file, listing walks the one that it is for.
std::string directory_of(const Work& work) {
  const nt::IrpStackLocation* at = work.irp == nullptr ? nullptr : work.irp->irp.current();
  if (work.file == nullptr || at == nullptr) return {};
  const std::string path = work.file->file.full_path();
  switch (at->major) {
    case nt::kMjCreate:
    case nt::kMjSetInformation:
    case nt::kMjCleanup:
    case nt::kMjClose:
      return parent_of(path);
    case nt::kMjDirectoryControl:
      return path;
    default:
      return {};
  }
}

void describe_directory(Context& c, Finding& f, const std::string& directory, const Work& work) {
  Directory d{.path = directory, .contents = {}, .holders = {}};
  std::vector<std::string> children;
  d.holders = holders_of(c, directory, children);
  // The records know paths on the volume only.
  const std::string on_volume = work.file == nullptr ? directory : parent_of(work.file->file.path);
  if (c.world.target().physical() != nullptr && work.irp != nullptr &&
      waits::driver_short_name(work.irp->driver) == "ntfs")
    d.contents = nt::ntfs::scan_directory(*c.world.target().physical(), on_volume.empty() ? "\\" : on_volume,
                                          children, c.options.scan);
  const auto& n = d.contents;
  if (n.names != 0) {
    std::string patterns;
    for (size_t i = 0; i < n.patterns.size() && i < 3; i++)
      patterns += fmt::format("{}{} {}", i == 0 ? "" : ", ", n.patterns[i].count, n.patterns[i].pattern);
    f.evidence.push_back(
        {.text = fmt::format(
             "{} names of files in {} are in memory ({} in {} index buffers, {} file records): {}{}", n.names,
             directory, n.indexed_names, n.index_buffers, n.file_records, patterns,
             n.patterns.size() > 3 ? " ..." : ""),
         .confidence = n.confidence,
         .reads = {},
         .check = ""});
  }
  std::string who;
  for (size_t i = 0; i < d.holders.size() && i < 3; i++) {
    const Holder& h = d.holders[i];
    who += fmt::format("{}{} ({}, {}, {} under way)", i == 0 ? "" : ", ", h.process,
                       counted(h.processes, "process", "processes"),
                       counted(h.handles, "open handle", "open handles"),
                       counted(h.requests, "request", "requests"));
  }
  if (!who.empty())
    f.evidence.push_back({.text = fmt::format("who has files in {} open: {}", directory, who),
                          .confidence = Confidence::exact,
                          .reads = {},
                          .check = ""});
  f.culprit.directory = directory;
  f.directory = std::move(d);
}

std::vector<std::string> advice_for(const Finding& f, const Work& work, bool starved, bool foreign) {
  if (starved)
    return {
        "It could go on but gets no processor: see which threads run at which priority (`!running -it`) and "
        "which others are ready (`!ready`). Threads of a higher priority that never wait starve it.",
        "Where the processors are idle or Windows' own boost after four seconds did not help, the guest "
        "itself "
        "gets too little time: look at steal time and CPU limits on the host."};
  if (foreign)
    return {
        fmt::format("It is in {}, which is not Windows' own: update that driver or take it out for a test; "
                    "its maker needs the stack.",
                    f.culprit.driver),
        "A second dump ten seconds later tells whether it is still at the same place."};
  if (!f.directory)
    return {
        "The owner works; the others queue. Take a second dump ten seconds later: if another thread owns the "
        "lock then, many short operations "
        "pile up; if it is the same one at the same place, it is stuck in a long operation.",
        "Its stack says what it does; profile it in the guest (Windows Performance Recorder, CPU and file "
        "I/O)."};
  const std::string& d = f.directory->path;
  std::vector<std::string> out{
      fmt::format("Count the files in {} (`dir /a /b | find /c /v \"\"` there). With many thousands of "
                  "similar names every create and every lookup "
                  "walks a long index while it holds the directory.",
                  d)};
  if (work.irp != nullptr && work.irp->irp.current() != nullptr &&
      work.irp->irp.current()->major == nt::kMjCreate)
    out.push_back(
        "See whether short (8.3) names are made on the volume: `fsutil 8dot3name query C:`. Creating one for "
        "each of many names that begin "
        "alike takes time that grows with the square of their number; `fsutil 8dot3name set` turns it off, "
        "`strip` removes them.");
  if (!f.directory->holders.empty())
    out.push_back(
        fmt::format("Find out why {} fills the directory: session, cache or temporary files that nobody "
                    "deletes. Delete old ones, give them "
                    "a directory of their own, and switch their clean-up on.",
                    f.directory->holders.front().process));
  return out;
}

// A thread that others wait behind and that does not wait itself, and what is known of it.
struct Owner {
  const ThreadNode& thread;
  waits::Behind behind;
  std::vector<ChainLink> chain;
  u32 contention = 0;  // of the locks on the way
  Work work;
  std::optional<u64> starved;  // milliseconds without a processor
  std::string state;
  // Nobody behind it expects it to be quick: they wait for a thread to end or for an answer.
  bool patient() const { return behind.impatient == 0; }
};

bool matters(const Context& c, const Owner& o) {
  const waits::Behind& b = o.behind;
  if (!runnable(o.thread) &&
      !(o.contention >= kHugeContention && b.longest_ms < 10'000 &&
        o.thread.nature() != waits::WaitNature::lock && o.thread.nature() != waits::WaitNature::io))
    return false;
  if ((b.impatient >= kSeveral && b.impatient_ms >= kSomewhatLongMs) || b.impatient_ms >= kLongMs ||
      (o.contention >= kHugeContention && b.threads.size() >= 2 && b.impatient_ms >= kShortMs))
    return true;
  // Who waits for a thread to end or for an answer may do so for hours: that the other one runs at this
  // moment says little, unless it has run for long.
  const bool runs_long = o.thread.thread.ticks && c.world.clock().ms(*o.thread.thread.ticks) >= kLongMs;
  return o.patient() && runs_long && b.longest_ms >= kLongMs;
}

// What it holds that the others want, and what those hold that wait for it.
void describe_locks(Context& c, const Owner& o, Finding& f) {
  const VirtAddr head = o.thread.thread.address;
  const auto waiters = [](const Lock& lock) {
    return counted(lock.waiters.size(), "thread waits", "threads wait");
  };
  const auto mode = [](const Lock& lock) {
    return *lock.mode == 0 ? std::string() : fmt::format(" {}", lock.mode);
  };
  // Few kinds of lock count it.
  const auto contention = [](const Lock& lock) {
    return lock.contention == 0 ? std::string() : fmt::format(", contention count {}", lock.contention);
  };
  for (const waits::Held& h : c.graph.held_by(head))
    if (const Lock* lock = c.world.lock(h.object, head)) {
      const std::string name = !lock->protects.empty() ? lock->protects.front() : lock->name;
      f.evidence.push_back(
          c.about_lock(*lock,
                       fmt::format("{} {}{} is held{} by {}; {} for it{}", lock->kind, lock->address,
                                   name.empty() ? "" : " (" + name + ")", mode(*lock), c.who(head),
                                   waiters(*lock), contention(*lock)),
                       lock->confidence));
    }
  for (const ChainLink& link : o.chain)
    if (link.owner != head)
      if (const Lock* lock = c.world.lock(link.object, link.owner))
        f.evidence.push_back(
            c.about_lock(*lock,
                         fmt::format("{} {}{} is held{} by {}, which itself waits; {} for it{}", lock->kind,
                                     lock->address, link.name.empty() ? "" : " (" + link.name + ")",
                                     mode(*lock), c.who(link.owner), waiters(*lock), contention(*lock)),
                         link.confidence));
}

void describe_owner(Context& c, const Owner& o, Finding& f) {
  const VirtAddr head = o.thread.thread.address;
  f.evidence.push_back(c.about_thread(
      head,
      fmt::format(
          "{} is {}{}{}", c.who(head), o.state,
          o.thread.waiting() ? " at this moment, for an instant: the lock is taken again and again"
                             : ", not waiting",
          o.thread.stack.symbols.empty() ? "" : fmt::format(": at {}", o.thread.stack.symbols.front())),
      Confidence::exact));
  if (o.thread.thread.state == nt::ThreadState::running && !o.thread.on_cpu() &&
      !c.world.target().cpus().empty()) {
    f.confidence = weaker(f.confidence, Confidence::heuristic);
    f.evidence.push_back(
        {.text = "no processor runs it, although its state says so: the dump is not of one instant",
         .confidence = Confidence::exact,
         .reads = {},
         .check = "!running"});
  }
  if (o.starved)
    f.evidence.push_back(
        {.text = what_runs(c), .confidence = Confidence::exact, .reads = {}, .check = "!running -it"});
  if (o.behind.longest_ms < 10'000) {
    const bool resource =
        std::ranges::any_of(o.chain, [](const ChainLink& l) { return l.kind == "ERESOURCE"; });
    f.evidence.push_back(
        {.text = fmt::format(
             "the longest wait is {}, and {} {}: this is no deadlock{}{}", duration(o.behind.longest_ms),
             c.who(head), o.thread.waiting() ? "waits for no other thread that is known" : "does not wait",
             o.contention >= kHugeContention
                 ? fmt::format("; the lock changes hands all the time (contention count {})", o.contention)
                 : "",
             resource ? "; a wait for a resource begins anew every four seconds, so all in all "
                        "they may have waited longer"
                      : ""),
         .confidence = Confidence::derived,
         .reads = {},
         .check = ""});
  }
}

void describe_work(Context& c, const Owner& o, Finding& f) {
  const IrpNode* irp = o.work.irp;
  if (irp == nullptr) return;
  // Whose code the thread is in says more than where its request lies.
  if (f.culprit.driver.empty()) f.culprit.driver = irp->driver;
  f.culprit.file = irp->file;
  f.evidence.push_back(c.about_irp(irp->irp.address,
                                   fmt::format("it works on {} {}{}: {}", irp->major, irp->irp.address,
                                               irp->driver.empty() ? "" : " in " + irp->driver,
                                               irp->file.empty() ? "a file that cannot be read" : irp->file),
                                   irp->irp.consistent ? Confidence::exact : Confidence::heuristic));
  if (const std::string directory = directory_of(o.work); !directory.empty())
    describe_directory(c, f, directory, o.work);
}

Finding finding_of(Context& c, const Owner& o) {
  const VirtAddr head = o.thread.thread.address;
  Finding f{.rule = "busy-owner", .verdict = "busy-owner", .confidence = o.behind.weakest};
  if (o.patient()) f.confidence = weaker(f.confidence, Confidence::heuristic);
  f.chain = o.chain;
  f.culprit = c.culprit(head);
  // The innermost driver on the stack is the deferred procedure's, not the thread's.
  if (o.thread.cpu && waits::in_deferred_procedure(c.world, o.thread)) f.culprit.driver.clear();
  const bool foreign = !f.culprit.driver.empty();
  f.waiting = o.behind.threads;
  f.longest_ms = o.behind.longest_ms;
  describe_locks(c, o, f);
  describe_owner(c, o, f);
  describe_work(c, o, f);
  if (auto e = c.why_holder(o.chain, head)) f.evidence.push_back(std::move(*e));
  f.title = fmt::format(
      "{} is {}{}{} and {}; {} behind it, the longest for {}", c.who(head), o.state,
      foreign ? fmt::format(" in {}", f.culprit.driver) : "",
      o.work.irp == nullptr ? "" : fmt::format(" in {} on {}", o.work.irp->major, o.work.irp->file),
      o.chain.empty() ? "holds a lock" : role_of(o.chain.back()),
      counted(o.behind.threads.size(), "thread waits", "threads wait"), duration(o.behind.longest_ms));
  f.advice = advice_for(f, o.work, o.starved.has_value(), foreign);
  f.on_symptom = c.touches_entry(head, o.behind.threads);
  f.score = (o.patient() ? 3 : 10) + c.weight(o.behind.threads);
  return f;
}

void find(Context& c, std::vector<Finding>& findings) {
  for (const VirtAddr head : c.graph.heads()) {
    const ThreadNode* t = c.world.thread(head);
    if (t == nullptr || t->thread.terminated()) continue;
    Owner o{.thread = *t,
            .behind = c.graph.behind(head),
            .chain = c.chain_to(head),
            .work = {},
            .starved = {},
            .state = {}};
    for (const ChainLink& link : o.chain)
      if (const Lock* lock = c.world.lock(link.object, link.owner))
        o.contention = std::max(o.contention, lock->contention);
    if (!matters(c, o)) continue;
    o.work = work_of(c, *t);
    o.starved = starved_ms(c, *t);
    const bool interrupted = t->cpu && waits::in_deferred_procedure(c.world, *t);
    o.state = interrupted ? fmt::format("interrupted by a deferred procedure (DPC) on CPU {}", *t->cpu)
              : t->cpu    ? fmt::format("RUNNING on CPU {}", *t->cpu)
              : o.starved ? fmt::format("Ready for {} at priority {} and gets no processor",
                                        duration(*o.starved), t->thread.priority)
                          : std::string(nt::name(t->thread.state));
    findings.push_back(finding_of(c, o));
  }
}

}  // namespace

extern const Rule busy_owner_rule;
const Rule busy_owner_rule{.name = "busy-owner", .find = find};

}  // namespace unhang::diagnose
