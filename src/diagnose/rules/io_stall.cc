// Threads wait long for I/O that a storage or filter driver has not completed, or for pages and cache writes
// that the disk must take first. (Other machines: remote_wait.)
#include <algorithm>
#include <set>

#include "base/format.h"
#include "diagnose/memory_waits.h"
#include "diagnose/pending_io.h"

namespace unhang::diagnose {

namespace {

using waits::IoClass;

// Free pages come from dirty ones that the disk has taken.
void add_memory_waiters(Context& c, Finding& f) {
  const std::vector<VirtAddr> starved = memory_waiters(c);
  if (starved.empty()) return;
  for (const VirtAddr t : starved)
    f.longest_ms = std::max(f.longest_ms, c.world.thread(t)->thread.waited_ms.value_or(0));
  f.waiting.insert(f.waiting.end(), starved.begin(), starved.end());
  f.waiting = c.graph.with_behind(std::move(f.waiting));
  f.evidence.push_back(c.about_thread(
      starved.front(),
      fmt::format("{} for free memory: dirty pages become free when they are written, and writes wait here",
                  counted(starved.size(), "thread waits", "threads wait")),
      Confidence::heuristic));
  f.title += fmt::format("; {} for the memory that its writes would free",
                         counted(starved.size(), "thread waits", "threads wait"));
  f.score = 20 + c.weight(f.waiting);
}

void about_devices(Context& c, std::vector<Finding>& findings) {
  for (const PendingAt& at : disk_requests(c)) {
    auto f = finding_about(c, at, "io-stall");
    if (!f) continue;
    const IoClass cls = waits::io_class(*at.requests.front().irp);
    const bool known = waits::is_known_storage(at.driver);
    if (waits::is_virtio_storage(at.driver) || (known && waits::is_virtio_storage(at.bottom))) {
      f->advice = {
          fmt::format(
              "{}. Look at the host: qemu's I/O errors, `virsh domblkstat`, `virsh domblkerror`, the back "
              "end's latency, a full or frozen volume.",
              waits::is_virtio_storage(at.driver)
                  ? "The request is with the virtio driver: the guest has handed it to the host storage"
                  : "The request is in the stack of a virtio disk, which takes no more while the host "
                    "storage "
                    "does not answer"),
          "`virsh qemu-monitor-command DOMAIN --hmp 'info blockstats'` twice, ten seconds apart, shows "
          "whether "
          "requests complete at all."};
      f->title += " (host storage)";
    } else if (cls == IoClass::other) {
      f->advice = {
          fmt::format("The request is with {}: look at the device behind it, and update the driver "
                      "or take it out for a test.",
                      at.driver)};
    } else if (cls == IoClass::storage && !known) {
      f->advice = {fmt::format(
          "The request lies in {}, which is none of the usual storage drivers{}: if that is an encryption, "
          "backup or caching filter, update it or take it out for a test.",
          at.driver, at.bottom.empty() || at.bottom == at.driver ? "" : " and stands above " + at.bottom)};
    } else if (cls == IoClass::storage) {
      f->advice = {
          "The request is with the guest's storage stack. Look at the virtual disk on the host (latency, "
          "errors, a full volume) and in the "
          "guest at System events 129 (reset to device), 153 (retried) and 7 (bad block).",
          "An IRP above a port driver whose queue is empty points to a filter between them: `!devstack` of "
          "its "
          "device shows it."};
    } else {
      f->advice = {fmt::format(
          "The request is held by {}. If that is an antivirus, backup or encryption filter, update "
          "it or take it out for a test "
          "(`fltmc`, `fltmc instances`).",
          at.driver)};
    }
    if (writes_stall(at)) add_memory_waiters(c, *f);
    findings.push_back(std::move(*f));
  }
}

// For how long somebody has waited for a thread that is ending. A parent waits for its child for as long as
// that lives, and the instant in which a thread ends is none to report: who waits for a thread or process
// counts when he began a short while ago, as who has just ended it does.
std::optional<u64> waited_for_end_ms(const Context& c, VirtAddr thread) {
  constexpr u64 kShortestMs = 5000, kLongestMs = 600'000;
  std::optional<u64> out;
  for (const VirtAddr b : c.graph.behind(thread).threads) {
    const u64 ms = c.world.thread(b)->thread.waited_ms.value_or(0);
    const auto to = c.graph.out(b);
    const bool patient =
        std::all_of(to.begin(), to.end(), [](const waits::Edge* e) { return waits::is_patient(e->kind); });
    if (ms >= kShortestMs && (!patient || ms <= kLongestMs)) out = std::max(out.value_or(0), ms);
  }
  return out;
}

// Threads that cannot end because a driver does not give their requests back.
void about_ending(Context& c, std::vector<Finding>& findings) {
  const auto counts = [](const ThreadNode& t, const IrpNode&) { return t.thread.ending(); };
  for (const PendingAt& at : pending_io(c, counts)) {
    const Pending& first = at.requests.front();
    const auto since = waited_for_end_ms(c, first.thread);
    if (!since) continue;
    auto f = finding_about(c, at, "io-stall");
    if (!f) continue;
    f->longest_ms = *since;
    f->evidence = {c.about_irp(first.irp->irp.address,
                               fmt::format("{} {} of {} lies at {} and has not come back{}", first.irp->major,
                                           first.irp->irp.address, c.who(first.thread), first.irp->driver,
                                           first.irp->irp.cancel ? "; it has been cancelled" : ""),
                               Confidence::exact),
                   c.about_thread(first.thread,
                                  fmt::format("{} is on its way out; that it has been so for long is taken "
                                              "from those who wait for it ({})",
                                              c.who(first.thread), duration(*since)),
                                  Confidence::heuristic)};
    f->title =
        fmt::format("{} is ending and cannot: {} does not complete its {}{}; {} for that, the longest for {}",
                    c.who(first.thread), at.where(), first.irp->major,
                    first.irp->irp.cancel ? ", which has been cancelled" : "",
                    counted(first.behind.size(), "thread waits", "threads wait"), duration(f->longest_ms));
    f->advice = {
        fmt::format("A driver must complete a request that is cancelled; {} has not. Update or take out that "
                    "driver, or look at the device behind it.",
                    at.driver),
        "Ending the process once more does not help; only the request's completion or a restart of the guest "
        "does. A second dump ten seconds later tells whether it is the same request."};
    // Who only waits for the process to end may have all the time in the world: anything else comes first.
    constexpr double kBehindOthers = 3;
    if (c.graph.behind(first.thread).impatient == 0) f->score = kBehindOthers;
    findings.push_back(std::move(*f));
  }
}

// Page faults and throttled writes whose request cannot be found: the disk is what they wait for, which one
// is not known.
void about_memory(Context& c, const char* kind, const char* what, const char* advice,
                  std::vector<Finding>& findings) {
  constexpr u64 kLongMs = 5000;
  Finding f{.rule = "io-stall", .verdict = "io-stall", .confidence = Confidence::heuristic};
  std::vector<VirtAddr> waiting;
  std::set<std::string> files, volumes;
  for (const waits::Edge& e : c.world.edges) {
    const ThreadNode* t = c.world.thread(e.from);
    if (std::string_view(e.kind) != kind || !e.to.is_null() || t == nullptr ||
        t->thread.waited_ms.value_or(0) < kLongMs)
      continue;
    waiting.push_back(e.from);
    f.longest_ms = std::max(f.longest_ms, *t->thread.waited_ms);
    f.confidence = weaker(f.confidence, e.confidence);
    std::string from;
    if (const auto file = c.world.files.find(e.file); file != c.world.files.end()) {
      from = " of " + file->second.file.full_path();
      files.insert(file->second.file.full_path());
      if (!file->second.file.volume.empty()) volumes.insert(file->second.file.volume);
    }
    constexpr size_t kMostShown = 5;
    if (f.evidence.size() < kMostShown)
      f.evidence.push_back(c.about_thread(
          e.from,
          fmt::format("{} waits {} for {}{}", c.who(e.from), duration(*t->thread.waited_ms), what, from),
          e.confidence));
    if (f.chain.empty()) {
      f.culprit = c.culprit(e.from);
      f.culprit.file = files.empty() ? "" : *files.begin();
      f.chain = c.chain_to(e.from);
      f.chain.push_back({.waiters = {e.from},
                         .object = e.object,
                         .kind = e.kind,
                         .name = what + from,
                         .longest_ms = *t->thread.waited_ms,
                         .confidence = e.confidence});
    }
  }
  if (waiting.empty()) return;
  std::vector<VirtAddr> suffering = c.graph.with_behind(waiting);
  const size_t behind = suffering.size() - waiting.size();
  f.title = fmt::format(
      "{} for {}{}{}, the longest for {}{}; {}", counted(waiting.size(), "thread waits", "threads wait"),
      what, files.empty() ? "" : " of " + *files.begin(),
      files.size() < 2 ? "" : fmt::format(" and {} more", files.size() - 1), duration(f.longest_ms),
      behind == 0 ? "" : fmt::format(", {} behind them", counted(behind, "thread waits", "threads wait")),
      volumes.empty() ? "which device does not answer is not known"
                      : fmt::format("{} does not answer; which of its drivers has the request is not "
                                    "known",
                                    fmt::join(volumes, ", ")));
  f.advice = {advice};
  f.on_symptom = c.touches_entry(waiting.front(), suffering);
  f.score = 12 + c.weight(suffering);
  f.waiting = std::move(suffering);
  findings.push_back(std::move(f));
}

void find(Context& c, std::vector<Finding>& findings) {
  about_devices(c, findings);
  about_ending(c, findings);
  about_memory(
      c, "page-in", "a page that is being read",
      "Pages come from files and from the page file: look at the disk that holds them, on the host and in "
      "the guest (System events 51, 129, 153).",
      findings);
  about_memory(
      c, "write throttle", "the cache manager to write dirty pages out",
      "More is written than the disk takes: look at its throughput on the host, and at who writes (the "
      "files named above; Resource Monitor in the guest).",
      findings);
}

}  // namespace

extern const Rule io_stall_rule;
const Rule io_stall_rule{.name = "io-stall", .find = find};

}  // namespace unhang::diagnose
