#include <algorithm>
#include <map>
#include <set>

#include "base/ascii.h"
#include "base/format.h"
#include "diagnose/rule.h"
#include "nt/objects/eresource.h"
#include "waits/logon.h"
#include "waits/spin.h"

namespace unhang::diagnose {

std::string owes(std::string_view kind, const std::string& who) {
  if (kind == "ALPC") return fmt::format("to which {} must reply", who);
  if (kind == "Thread") return fmt::format("which is {}", who);
  if (kind == "ProcessObject") return fmt::format("which {} keeps from ending", who);
  if (kind == "work item" || kind == "event" || kind == "page-in")
    return fmt::format("for which {} works", who);
  if (kind == "oplock") return fmt::format("which {} must acknowledge", who);
  return fmt::format("which {} holds", who);
}

std::string_view holds(const ChainLink& link) {
  const bool guessed = link.kind == "push lock" || link.kind == "SRW lock" || link.kind == "spin lock";
  return guessed && link.confidence >= Confidence::heuristic ? "seems to hold" : "holds";
}

std::string role_of(const ChainLink& link) {
  if (link.kind == "Thread" || link.kind == "ProcessObject") return "must end";
  return fmt::format("{} {}", link.kind == "ALPC" ? "must answer" : holds(link), held_thing(link));
}

std::string held_thing(const ChainLink& link) {
  if (link.name.empty()) return fmt::format("{} {}", link.kind, link.object);
  if (link.name.starts_with("in ")) return fmt::format("{} {} {}", link.kind, link.object, link.name);
  return link.name;
}

std::string duration(u64 ms) {
  if (ms < 1000) return fmt::format("{} ms", ms);
  if (ms < 60'000) return fmt::format("{}.{} s", ms / 1000, ms % 1000 / 100);
  if (ms < 3'600'000) return fmt::format("{} min {} s", ms / 60'000, ms % 60'000 / 1000);
  return fmt::format("{} h {} min", ms / 3'600'000, ms % 3'600'000 / 60'000);
}

std::string processes_of(const World& world, const std::vector<VirtAddr>& threads, size_t most) {
  std::map<std::string, size_t> counts;
  std::vector<std::string> order;
  for (const VirtAddr va : threads) {
    const ThreadNode* t = world.thread(va);
    const ProcessNode* p = t == nullptr ? nullptr : world.process_of(*t);
    const std::string name = p == nullptr ? "?" : p->process.name;
    if (counts[name]++ == 0) order.push_back(name);
  }
  // Logon and the desktop first, then the most frequent.
  std::stable_sort(order.begin(), order.end(), [&](const std::string& a, const std::string& b) {
    const bool ca = waits::is_logon_critical(a), cb = waits::is_logon_critical(b);
    return ca != cb ? ca : counts[a] > counts[b];
  });
  std::string s;
  for (size_t i = 0; i < order.size() && i < most; i++) {
    s += (s.empty() ? "" : ", ") + order[i];
    if (counts[order[i]] > 1) s += fmt::format(" ({})", counts[order[i]]);
  }
  if (order.size() > most) s += fmt::format(" and {} more", order.size() - most);
  return s;
}

double Context::weight(const std::vector<VirtAddr>& threads) const {
  // A wait of hours is older than one of a minute, not worse: what hangs now is what the user called about.
  constexpr u64 kLongestMs = 60'000, kFeltMs = 5000;
  constexpr double kLogonHeldUp = 60;
  double sum = 0;
  bool logon = false;
  for (const VirtAddr va : threads) {
    const ThreadNode* t = world.thread(va);
    if (t == nullptr) continue;
    const u64 ms = graph.held_up_ms(va);
    const ProcessNode* p = world.process_of(*t);
    const bool critical = p != nullptr && waits::is_logon_critical(p->process.name);
    sum += (1 + static_cast<double>(std::min(ms, kLongestMs)) / 10'000) * (critical ? 3 : 1);
    if (critical && ms >= kFeltMs && waits::is_on_logon_path(p->process.name)) {
      const auto to = graph.out(va);
      const auto patient = [&](const waits::Edge* e) { return graph.is_patient(*e); };
      logon = logon || to.empty() || !std::ranges::all_of(to, patient);
    }
  }
  return sum + (logon ? kLogonHeldUp : 0);
}

std::vector<ChainLink> Context::chain_to(VirtAddr head) const {
  std::vector<ChainLink> links;
  std::set<VirtAddr> seen;
  VirtAddr at = head;
  while (seen.insert(at).second) {
    // The object of this thread that most threads wait for, counted through.
    const std::vector<waits::Held> held = graph.held_by(at);
    const waits::Held* best = nullptr;
    size_t most = 0;
    for (const waits::Held& h : held) {
      std::set<VirtAddr> all;
      for (const waits::Edge* e : h.edges) {
        all.insert(e->from);
        for (const VirtAddr b : graph.behind(e->from).threads) all.insert(b);
      }
      if (all.size() > most) {
        most = all.size();
        best = &h;
      }
    }
    if (best == nullptr) break;
    ChainLink link{.object = best->object, .kind = best->kind, .owner = at};
    for (const waits::Edge* e : best->edges) {
      link.waiters.push_back(e->from);
      link.confidence = weaker(link.confidence, e->confidence);
      if (const ThreadNode* t = world.thread(e->from))
        link.longest_ms = std::max(link.longest_ms, t->thread.waited_ms.value_or(0));
    }
    std::stable_sort(link.waiters.begin(), link.waiters.end(), [&](VirtAddr a, VirtAddr b) {
      const ThreadNode *ta = world.thread(a), *tb = world.thread(b);
      return (ta == nullptr ? 0 : ta->thread.waited_ms.value_or(0)) >
             (tb == nullptr ? 0 : tb->thread.waited_ms.value_or(0));
    });
    if (const Lock* lock = world.lock(best->object, at)) {
      link.name = !lock->protects.empty() ? lock->protects.front() : lock->name;
      link.mode = lock->mode;
    }
    // On: the waiter behind whom most threads wait.
    VirtAddr next{};
    size_t longest = 0;
    for (const VirtAddr w : link.waiters)
      if (const size_t n = graph.behind(w).threads.size(); n > longest && !seen.contains(w)) {
        longest = n;
        next = w;
      }
    links.push_back(std::move(link));
    if (next.is_null()) break;
    at = next;
  }
  std::reverse(links.begin(), links.end());
  return links;
}

namespace {

// Drivers that come with Windows, lower case: the usual ones on stacks.
constexpr std::string_view kOfWindows[] = {
    "nt",       "hal",      "ntfs",     "refs",   "fltmgr",     "fileinfo",   "luafv",    "wcifs",
    "cldflt",   "bindflt",  "wdfilter", "win32k", "win32kfull", "win32kbase", "dxgkrnl",  "dxgmms1",
    "dxgmms2",  "watchdog", "ndis",     "netio",  "tcpip",      "afd",        "tdx",      "netbt",
    "http",     "srv",      "srv2",     "srvnet", "rdbss",      "mrxsmb",     "mrxsmb10", "mrxsmb20",
    "mup",      "dfsc",     "npfs",     "msfs",   "storport",   "storahci",   "stornvme", "classpnp",
    "disk",     "cdrom",    "partmgr",  "volmgr", "volmgrx",    "volsnap",    "fvevol",   "rdyboost",
    "iorate",   "ataport",  "atapi",    "pciide", "pciidex",    "mountmgr",   "wdf01000", "ksecdd",
    "ksecpkg",  "cng",      "ci",       "clfs",   "tm",         "acpi",       "pci",      "intelppm",
    "amdppm",   "processr", "usbport",  "usbhub", "usbhub3",    "usbxhci",    "ucx01000", "condrv",
    "fwpkclnt", "mpsdrv",   "wanarp",   "bowser", "vdrvroot",   "spaceport",  "storvsc",  "vmbus",
    "fastfat",  "exfat",    "cdfs",     "udfs",   "kbdclass",   "mouclass",   "i8042prt", "hidclass",
    "termdd",   "rdpdr"};

// Whose code a thread is in: the innermost driver on its kernel stack, where that is not one of Windows' own.
std::string foreign_driver(const ThreadNode& t) {
  for (size_t i = 0; i < t.stack.frames.size() && is_kernel(t.stack.frames[i].ip); i++) {
    const std::string module(waits::module_of(t.stack.symbols[i]));
    const std::string low = lower(module);
    if (low.empty() || low == "nt" || low == "hal") continue;
    return std::ranges::find(kOfWindows, low) == std::end(kOfWindows) ? module : "";
  }
  return "";
}

}  // namespace

Culprit Context::culprit(VirtAddr va) const {
  Culprit c{.thread = va};
  const ThreadNode* t = world.thread(va);
  if (t == nullptr) return c;
  c.pid = t->thread.pid;
  c.tid = t->thread.tid;
  c.cpu = t->cpu;
  if (const ProcessNode* p = world.process_of(*t)) c.process = p->process.name;
  c.driver = foreign_driver(*t);
  return c;
}

std::vector<nt::ReadRecord> Context::reads(const std::function<void()>& reading) const {
  std::vector<nt::ReadRecord> records;
  if (!options.why) return records;
  world.target().record_reads(&records);
  reading();
  world.target().record_reads(nullptr);
  return records;
}

Evidence Context::about_thread(VirtAddr thread, std::string text, Confidence confidence) const {
  return {std::move(text), confidence, reads([&] { (void)nt::read_thread(world.target(), thread); }),
          fmt::format("!thread {}", thread)};
}

namespace {

// The WinDbg command that shows a lock.
std::string check_of(const Lock& lock) {
  const std::string_view kind = lock.kind;
  if (kind == "ERESOURCE") return fmt::format("!locks {}", lock.address);
  if (kind == "critical section") return fmt::format(".process {}; !cs {}", lock.process, lock.address);
  if (kind == "queued spin lock") return "!qlocks";
  if (kind == "spin lock" || kind == "SRW lock") return fmt::format("dq {} L1", lock.address);
  const char* type = kind == "push lock"        ? "_EX_PUSH_LOCK"
                     : kind == "FAST_MUTEX"     ? "_FAST_MUTEX"
                     : kind == "KGUARDED_MUTEX" ? "_KGUARDED_MUTEX"
                                                : "_KMUTANT";
  return fmt::format("dt nt!{} {}", type, lock.address);
}

}  // namespace

Evidence Context::about_lock(const Lock& lock, std::string text, Confidence confidence) const {
  const bool resource = std::string_view(lock.kind) == "ERESOURCE";
  return {std::move(text), confidence, reads([&] {
            if (resource)
              (void)nt::read_resource(world.target(), lock.address);
            else
              (void)nt::read_dispatcher(world.target(), lock.address);
          }),
          check_of(lock)};
}

Evidence Context::about_irp(VirtAddr irp, std::string text, Confidence confidence) const {
  return {std::move(text), confidence, reads([&] { (void)nt::read_irp(world.target(), irp); }),
          fmt::format("!irp {}", irp)};
}

std::optional<Evidence> Context::why_holder(const std::vector<ChainLink>& chain, VirtAddr head) const {
  if (chain.empty() || holds(chain.back()) == "holds") return std::nullopt;
  for (const waits::Edge& e : world.edges)
    if (e.to == head && e.object == chain.back().object && !e.note.empty())
      return about_thread(head, fmt::format("that {} has {} {}: {}", who(head), e.kind, e.object, e.note),
                          e.confidence);
  return std::nullopt;
}

bool Context::writes_live_reports() const {
  constexpr u32 kFirst = 10240;
  return world.target().build() >= kFirst;
}

bool Context::touches_entry(VirtAddr head, const std::vector<VirtAddr>& behind) const {
  for (const VirtAddr e : options.entry_threads)
    if (e == head || std::find(behind.begin(), behind.end(), e) != behind.end()) return true;
  return false;
}

}  // namespace unhang::diagnose
