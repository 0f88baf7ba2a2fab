// A processor that spins: in a spin lock that is never released, in a deferred procedure that does not end,
// or a driver that turns in a loop without ever waiting.
#include <algorithm>
#include <set>

#include "base/format.h"
#include "diagnose/rule.h"
#include "nt/objects/cpu.h"
#include "nt/objects/dpc.h"
#include "waits/spin.h"

namespace unhang::diagnose {

namespace {

constexpr u64 kLoopMs = 5000, kStarvedMs = 1000, kLongDpcMs = 1000;
constexpr u64 kInterruptFlag = 1 << 9;

// Modules that work for others: who called them, or what they called, is the one to name.
bool is_system_module(std::string_view module) {
  static constexpr std::string_view kNames[] = {"nt",     "hal",      "Ntfs",   "ntfs",       "fltmgr",
                                                "FLTMGR", "refs",     "win32k", "win32kfull", "win32kbase",
                                                "ndis",   "storport", "tcpip"};
  return std::find(std::begin(kNames), std::end(kNames), module) != std::end(kNames);
}

// The first frame outside of the kernel proper: whose code it is. Not of the program that called it.
size_t driver_frame(const stack::ThreadStack& stack, size_t from) {
  size_t end = 0;
  while (end < stack.frames.size() && is_kernel(stack.frames[end].ip)) end++;
  for (size_t i = from; i < end; i++)
    if (const std::string_view m = waits::module_of(stack.symbols[i]); m != "nt" && m != "hal") return i;
  return std::min(from, stack.symbols.size() - 1);
}

struct Irql {
  std::string text;  // "IRQL 2 (CR8)"; empty: nothing says that it is raised
  Confidence confidence = Confidence::exact;
};

Irql irql_of(const Context& c, const nt::Cpu& cpu, const ThreadNode& t) {
  if (cpu.state->cr8 && *cpu.state->cr8 != 0) return {fmt::format("IRQL {} (CR8)", *cpu.state->cr8)};
  if (waits::dpc_frame(t.stack))
    return {fmt::format("DISPATCH_LEVEL: {} is below it", t.stack.symbols[*waits::dpc_frame(t.stack)])};
  const nt::Object prcb(c.world.target(), cpu.kprcb);
  if (prcb.value_or(nt::KPRCB::DpcRoutineActive, 0) != 0)
    return {"DISPATCH_LEVEL: KPRCB.DpcRoutineActive is set"};
  if ((cpu.state->rflags & kInterruptFlag) == 0) return {"interrupts are disabled (RFLAGS.IF)"};
  return {};
}

// Threads that are ready to run on a processor and cannot, and for how long the first of them has been so.
std::vector<VirtAddr> starved_on(const World& world, const nt::Cpu& cpu, u64& longest_ms) {
  std::vector<VirtAddr> out;
  for (const ThreadNode& t : world.threads) {
    const bool ready = t.thread.state == nt::ThreadState::ready || t.thread.state == nt::ThreadState::standby;
    if (t.idle_thread || !ready || t.thread.next_processor != cpu.number) continue;
    out.push_back(t.thread.address);
    if (t.thread.ticks) longest_ms = std::max(longest_ms, world.clock().ms(*t.thread.ticks));
  }
  return out;
}

void finish(Context& c, Finding& f, VirtAddr thread, std::vector<VirtAddr> starved, u64 starved_ms, u32 cpu) {
  std::vector<VirtAddr> suffering = c.graph.behind(thread).threads;
  f.longest_ms = std::max(c.graph.behind(thread).longest_ms, starved_ms);
  if (!suffering.empty())
    f.evidence.push_back({.text = fmt::format("{} for what it holds",
                                              counted(suffering.size(), "thread waits", "threads wait")),
                          .confidence = c.graph.behind(thread).weakest,
                          .reads = {},
                          .check = "!locks"});
  if (!starved.empty())
    f.evidence.push_back(
        {.text = fmt::format(
             "{} and cannot run on CPU {}{}", counted(starved.size(), "thread is ready", "threads are ready"),
             cpu, starved_ms == 0 ? "" : fmt::format(", the longest for {}", duration(starved_ms))),
         .confidence = Confidence::derived,
         .reads = {},
         .check = "!ready"});
  suffering.insert(suffering.end(), starved.begin(), starved.end());
  suffering = c.graph.with_behind(std::move(suffering));
  f.chain = c.chain_to(thread);
  // Who is ready here may hold what others wait for.
  VirtAddr holder;
  size_t most = 0;
  for (const VirtAddr s : starved)
    if (const size_t n = c.graph.behind(s).threads.size(); n > most) {
      most = n;
      holder = s;
    }
  if (f.chain.empty() && most != 0) f.chain = c.chain_to(holder);
  f.advice = {
      "One look cannot tell a short spin from an endless one: take a second dump ten seconds later. The "
      "same CPU at the same place is the cause.",
      fmt::format("Update or take out {}; its maker needs this stack and the stacks of all other "
                  "processors (`!running -it`).",
                  f.culprit.driver)};
  f.on_symptom = c.touches_entry(thread, suffering);
  f.waiting = std::move(suffering);
}

// "a deferred procedure (DPC) of netkvm", "System 4.120 in avfilter". A DPC borrows the stack of whatever
// thread it interrupted: the thread is innocent.
std::string what_runs(Context& c, const ThreadNode& t, std::string_view driver) {
  return waits::in_deferred_procedure(c.world, t) ? fmt::format("a deferred procedure (DPC) of {}", driver)
                                                  : fmt::format("{} in {}", c.who(t.thread.address), driver);
}

// Which deferred procedure a processor says that it runs.
void add_active_dpc(const Context& c, const nt::Cpu& cpu, Finding& f) {
  const auto queues = nt::read_dpcs(c.world.target(), cpu);
  if (!queues) return;
  for (const nt::DpcQueue& q : *queues)
    if (q.active)
      f.evidence.push_back(
          {.text = fmt::format("the processor's active DPC is {}, routine {}", q.active->address,
                               c.world.target().symbolize(q.active->routine)),
           .confidence = Confidence::derived,
           .reads = {},
           .check = "!dpcs"});
}

// What a stack that is cut says of whose code it is may be wrong.
Confidence confidence_of(const ThreadNode& t) {
  return t.stack.kernel_whole() ? Confidence::heuristic : Confidence::guess;
}

// The thread that has the spin lock: the lock's queue says so, or it is the only one with the lock's address.
struct LockHolder {
  const ThreadNode* thread = nullptr;
  bool by_queue = false;
};
LockHolder holder_of_lock(const Context& c, const ThreadNode& t) {
  for (const waits::Edge& e : c.world.edges)
    if (e.from == t.thread.address && std::string_view(e.kind).ends_with("spin lock") && e.to != e.from)
      if (const ThreadNode* holder = c.world.thread(e.to);
          holder != nullptr && holder->on_cpu() && !holder->stack.symbols.empty())
        return {holder, std::string_view(e.kind) == "queued spin lock"};
  return {};
}

// Inside a function that waits for a spin lock.
bool spins_for_lock(Context& c, const nt::Cpu& cpu, const ThreadNode& t, std::vector<Finding>& findings) {
  const auto spin = waits::spin_frame(t.stack);
  if (!spin) return false;
  const std::vector<std::string_view>& s = t.stack.symbols;
  // Who asked for the lock: the first frame outside of the kernel, else the one above.
  const size_t caller = driver_frame(t.stack, *spin + 1);
  const auto [holder, by_queue] = holder_of_lock(c, t);
  const ThreadNode& cause = holder == nullptr ? t : *holder;
  Finding f{.rule = "cpu-spin", .verdict = "cpu-spin", .confidence = confidence_of(cause)};
  // The queue of a queued lock says who has it. Where that cannot be followed, who waits is not to blame.
  if (holder == nullptr && s[*spin].find("Queued") != s[*spin].npos) f.confidence = Confidence::guess;
  f.culprit = c.culprit(cause.thread.address);
  f.culprit.driver =
      waits::module_of(holder == nullptr ? s[caller] : holder->stack.symbols[driver_frame(holder->stack, 0)]);
  const Irql irql = irql_of(c, cpu, t);
  f.title = fmt::format("CPU {} spins in {}: {} waits for a spin lock", cpu.number, s[*spin],
                        what_runs(c, t, waits::module_of(s[caller])));
  if (holder != nullptr)
    f.title += fmt::format(" that {} {} on CPU {}", what_runs(c, *holder, f.culprit.driver),
                           by_queue ? "has" : "seems to have", *holder->cpu);
  else
    f.title += "; who has it is not known";
  f.evidence.push_back(c.about_thread(t.thread.address,
                                      fmt::format("registers of CPU {}: {} at {}, called from {}", cpu.number,
                                                  cpu.state_from, s[*spin], s[caller]),
                                      t.stack.heuristic ? Confidence::heuristic : Confidence::exact));
  if (!irql.text.empty())
    f.evidence.push_back(
        {.text = fmt::format("the processor is at {}: it runs no other thread until this ends", irql.text),
         .confidence = irql.confidence,
         .reads = {},
         .check = "!running -it"});
  if (waits::in_deferred_procedure(c.world, t)) add_active_dpc(c, cpu, f);
  for (const waits::Edge& e : c.world.edges)
    if (e.from == t.thread.address && std::string_view(e.kind).ends_with("spin lock"))
      f.evidence.push_back({.text = fmt::format("the lock is {}: {}{}", e.object, e.note,
                                                e.to.is_null() ? "" : fmt::format(" ({})", c.who(e.to))),
                            .confidence = e.confidence,
                            .reads = {},
                            .check = fmt::format("dq {} L1", e.object)});
  if (holder != nullptr)
    f.evidence.push_back(c.about_thread(
        holder->thread.address, fmt::format("CPU {} is at {}", *holder->cpu, holder->stack.symbols.front()),
        holder->stack.heuristic ? Confidence::heuristic : Confidence::exact));
  u64 starved_ms = 0;
  std::vector<VirtAddr> starved = starved_on(c.world, cpu, starved_ms);
  finish(c, f, cause.thread.address, std::move(starved), starved_ms, cpu.number);
  // Every machine spins for an instant now and then.
  const auto runs_ms = [&](const ThreadNode& n) {
    return n.thread.ticks && !n.idle_thread ? c.world.clock().ms(*n.thread.ticks) : 0;
  };
  const u64 spins_ms = std::max(
      {runs_ms(t), runs_ms(cause),
       c.world.clock().ms(nt::Object(c.world.target(), cpu.kprcb).value_or(nt::KPRCB::DpcTimeCount, 0))});
  if (std::ranges::all_of(f.waiting, [&](VirtAddr w) { return w == t.thread.address; }) &&
      c.world.clock().tick_count && spins_ms < kStarvedMs)
    return true;
  f.score = 15 + c.weight(f.waiting);
  findings.push_back(std::move(f));
  return true;
}

// A loop in a driver's own code: it has not waited for long, and somebody suffers from that.
void loops(Context& c, const nt::Cpu& cpu, const ThreadNode& t, std::vector<Finding>& findings) {
  const std::vector<std::string_view>& s = t.stack.symbols;
  if (cpu.state->user_mode() || s.empty()) return;
  const std::string module(waits::module_of(s[driver_frame(t.stack, 0)]));
  if (is_system_module(module)) return;
  const Irql irql = irql_of(c, cpu, t);
  const bool in_dpc = waits::in_deferred_procedure(c.world, t);
  // The idle thread's stack carries DPCs too; without one it has nothing to do.
  if (t.idle_thread && !in_dpc) return;
  const u64 dpc_ms =
      c.world.clock().ms(nt::Object(c.world.target(), cpu.kprcb).value_or(nt::KPRCB::DpcTimeCount, 0));
  const u64 run_ms = t.thread.ticks ? c.world.clock().ms(*t.thread.ticks) : 0;
  u64 starved_ms = 0;
  std::vector<VirtAddr> starved = starved_on(c.world, cpu, starved_ms);
  const waits::Behind behind = c.graph.behind(t.thread.address);
  const bool someone_suffers = (!starved.empty() && starved_ms >= kStarvedMs) ||
                               behind.longest_ms >= kStarvedMs || (in_dpc && dpc_ms >= kLongDpcMs);
  const bool long_enough =
      in_dpc ? dpc_ms >= kLongDpcMs || starved_ms >= kStarvedMs : run_ms >= kLoopMs || starved_ms >= kLoopMs;
  if (!someone_suffers || !long_enough) return;
  Finding f{.rule = "cpu-spin", .verdict = "cpu-spin", .confidence = confidence_of(t)};
  f.culprit = c.culprit(t.thread.address);
  f.culprit.driver = module;
  const u64 since = in_dpc ? std::max(dpc_ms, starved_ms) : std::max(run_ms, starved_ms);
  f.title = fmt::format("CPU {} has been in {} for {} without waiting ({}); ", cpu.number, module,
                        duration(since), in_dpc ? "a deferred procedure" : c.who(t.thread.address));
  f.evidence.push_back(c.about_thread(
      t.thread.address, fmt::format("registers of CPU {}: {} at {}", cpu.number, cpu.state_from, s.front()),
      t.stack.heuristic ? Confidence::heuristic : Confidence::exact));
  if (!in_dpc)
    f.evidence.push_back(
        c.about_thread(t.thread.address,
                       fmt::format("{} last began to wait {} ago: since then it has run or been ready to",
                                   c.who(t.thread.address), duration(run_ms)),
                       Confidence::derived));
  if (!irql.text.empty())
    f.evidence.push_back({.text = fmt::format("the processor is at {}", irql.text),
                          .confidence = irql.confidence,
                          .reads = {},
                          .check = "!running -it"});
  if (in_dpc) add_active_dpc(c, cpu, f);
  finish(c, f, t.thread.address, std::move(starved), starved_ms, cpu.number);
  f.title += counted(f.waiting.size(), "thread suffers", "threads suffer");
  f.score = 14 + c.weight(f.waiting);
  findings.push_back(std::move(f));
}

// What a processor runs that is not idle.
struct Hog {
  u32 cpu;
  const ThreadNode* thread;
  bool dpc;  // it has interrupted the thread
};

std::string what_hogs(const Context& c, const Hog& h) {
  return h.dpc ? fmt::format("CPU {} is in a deferred procedure (DPC)", h.cpu)
               : fmt::format("CPU {} runs {} (priority {})", h.cpu, c.who(h.thread->thread.address),
                             h.thread->thread.priority);
}

// Threads ready for so long that neither their turn nor the scheduler's own boost for starved threads, after
// four seconds (Windows Internals, the balance set manager), has come: what the processors run has a higher
// priority and never waits.
void hogged(Context& c, std::vector<Finding>& findings) {
  constexpr u64 kReadyMs = 10'000;
  std::vector<Hog> hogs;
  bool one_is_free = false;
  for (const nt::Cpu& cpu : c.world.target().cpus()) {
    const ThreadNode* t = c.world.thread(cpu.current_thread);
    const bool dpc = t != nullptr && waits::in_deferred_procedure(c.world, *t);
    if (t == nullptr) return;  // what it runs, if anything, is not known
    if (t->idle_thread && !dpc)
      one_is_free = true;
    else
      hogs.push_back({cpu.number, t, dpc});
  }
  std::vector<VirtAddr> starved;
  std::set<u32> where;
  u64 longest = 0;
  for (const ThreadNode& t : c.world.threads) {
    const bool ready = t.thread.state == nt::ThreadState::ready && !t.idle_thread && t.thread.ticks;
    const u64 ms = ready ? c.world.clock().ms(*t.thread.ticks) : 0;
    if (ms < kReadyMs || t.thread.priority == 0) continue;  // 0: the thread that zeroes pages
    // A free processor takes who is ready, but for those that are bound to another one.
    const auto here = [&](const Hog& h) { return h.cpu == t.thread.next_processor; };
    if (one_is_free && std::ranges::none_of(hogs, here)) continue;
    starved.push_back(t.thread.address);
    where.insert(t.thread.next_processor);
    longest = std::max(longest, ms);
  }
  if (one_is_free) std::erase_if(hogs, [&](const Hog& h) { return !where.contains(h.cpu); });
  if (hogs.empty() || starved.empty()) return;
  const Hog& first = *std::ranges::max_element(hogs, [](const Hog& a, const Hog& b) {
    return a.dpc != b.dpc ? b.dpc : a.thread->thread.priority < b.thread->thread.priority;
  });
  const std::string who = c.who(first.thread->thread.address);
  Finding f{.rule = "cpu-spin", .verdict = "cpu-spin", .confidence = Confidence::heuristic};
  f.culprit.cpu = first.cpu;
  if (!first.dpc) f.culprit = c.culprit(first.thread->thread.address);
  f.title = fmt::format(
      "no processor for {}, the longest for {}: {}{}",
      counted(starved.size(), "thread that is ready", "threads that are ready"), duration(longest),
      what_hogs(c, first),
      hogs.size() == 1
          ? ""
          : fmt::format(", others on {}", counted(hogs.size() - 1, "more processor", "more processors")));
  f.evidence.push_back({.text = fmt::format("ready and not run: {}", processes_of(c.world, starved)),
                        .confidence = Confidence::derived,
                        .reads = {},
                        .check = "!ready"});
  std::string what;
  constexpr size_t kMostShown = 8;
  for (size_t i = 0; i < hogs.size() && i < kMostShown; i++)
    what += (i == 0 ? "" : ", ") + what_hogs(c, hogs[i]);
  f.evidence.push_back({.text = what, .confidence = Confidence::exact, .reads = {}, .check = "!running -it"});
  if (one_is_free)
    f.evidence.push_back({.text = "another processor is idle and takes none of them: it seems that they are "
                                  "bound to theirs (affinity)",
                          .confidence = Confidence::heuristic,
                          .reads = {},
                          .check = "!ready"});
  if (first.dpc) {
    for (const nt::Cpu& cpu : c.world.target().cpus())
      if (cpu.number == first.cpu) add_active_dpc(c, cpu, f);
    f.advice = {
        "A deferred procedure runs no longer than a moment: whose it is, the processor's stack tells "
        "(`!running -it`, `!dpcs`). Update or take out that driver.",
        "A second dump ten seconds later tells whether it is still the same one."};
  } else {
    f.advice = {
        fmt::format(
            "See what {} does, and why at priority {}: a thread of a high priority that never waits keeps "
            "all others from running. Lower its priority or end it.",
            who, first.thread->thread.priority),
        "If the priorities are alike, the guest itself gets too little time: look at steal time and CPU "
        "limits "
        "on the host, or give it more processors."};
  }
  f.longest_ms = longest;
  f.on_symptom = c.touches_entry(first.dpc ? VirtAddr() : first.thread->thread.address, starved);
  f.score = 12 + static_cast<double>(starved.size());
  f.waiting = std::move(starved);
  findings.push_back(std::move(f));
}

void find(Context& c, std::vector<Finding>& findings) {
  const size_t before = findings.size();
  for (const nt::Cpu& cpu : c.world.target().cpus()) {
    const ThreadNode* t = c.world.thread(cpu.current_thread);
    if (t == nullptr || !cpu.state || t->stack.symbols.empty()) continue;
    if (!spins_for_lock(c, cpu, *t, findings)) loops(c, cpu, *t, findings);
  }
  if (findings.size() == before) hogged(c, findings);
}

}  // namespace

extern const Rule cpu_spin_rule;
const Rule cpu_spin_rule{.name = "cpu-spin", .find = find};

}  // namespace unhang::diagnose
