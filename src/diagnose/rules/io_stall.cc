// Threads wait long for I/O that a storage, network or filter driver has not completed.
#include <algorithm>
#include <map>

#include "base/format.h"
#include "diagnose/rule.h"
#include "waits/io_class.h"

namespace unhang::diagnose {

namespace {

using waits::IoClass;

// A disk answers in milliseconds, a bad one in a second; Windows' own disk time-out is 60 s. With threads
// queued behind a lock the limit is lower: the lock is held for as long as the request takes.
constexpr u64 kLongMs = 5000, kLongWithWaitersMs = 2000;

struct Stalled {
  VirtAddr thread;
  const IrpNode* irp;
  u64 waited_ms;
  Confidence confidence;
  std::vector<VirtAddr> behind;
};

bool counts(IoClass c) {
  return c == IoClass::storage || c == IoClass::filter || c == IoClass::network || c == IoClass::file_system;
}

// Waits for I/O, grouped by the driver where the request sits.
std::map<std::string, std::vector<Stalled>> collect(const Context& c) {
  std::map<std::string, std::vector<Stalled>> by_driver;
  for (const waits::Edge& e : c.world.edges) {
    if (std::string_view(e.kind) != "IRP") continue;
    const ThreadNode* t = c.world.thread(e.from);
    if (t == nullptr) continue;
    for (const size_t i : t->irps) {
      const IrpNode& irp = c.world.irps[i];
      if (irp.irp.address != e.object || !counts(waits::io_class(irp))) continue;
      by_driver[irp.driver].push_back(
          {e.from, &irp, t->thread.waited_ms.value_or(0), e.confidence, c.graph.behind(e.from).threads});
    }
  }
  return by_driver;
}

void add(Context& c, const std::string& driver, std::vector<Stalled> stalled,
         std::vector<Finding>& findings) {
  std::stable_sort(stalled.begin(), stalled.end(), [](const Stalled& a, const Stalled& b) {
    return a.behind.size() != b.behind.size() ? a.behind.size() > b.behind.size() : a.waited_ms > b.waited_ms;
  });
  const auto is_long = [](const Stalled& s) {
    return s.waited_ms >= (s.behind.empty() ? kLongMs : kLongWithWaitersMs);
  };
  if (std::none_of(stalled.begin(), stalled.end(), is_long)) return;
  const Stalled& head = *std::find_if(stalled.begin(), stalled.end(), is_long);
  const IoClass cls = waits::io_class(*head.irp);
  const bool network = cls == IoClass::network;
  Finding f{
      .rule = "io-stall", .verdict = network ? "remote-wait" : "io-stall", .confidence = head.confidence};
  std::vector<VirtAddr> suffering;
  for (const Stalled& s : stalled) {
    if (!is_long(s)) continue;
    suffering.push_back(s.thread);
    suffering.insert(suffering.end(), s.behind.begin(), s.behind.end());
    f.longest_ms = std::max(f.longest_ms, s.waited_ms);
  }
  std::sort(suffering.begin(), suffering.end());
  suffering.erase(std::unique(suffering.begin(), suffering.end()), suffering.end());
  f.culprit = c.culprit(head.thread);
  f.culprit.driver = driver;
  f.culprit.file = head.irp->file;
  f.chain = c.chain_to(head.thread);
  f.chain.push_back({.waiters = {head.thread},
                     .object = head.irp->irp.address,
                     .kind = "IRP",
                     .name = fmt::format("{} at {}", head.irp->major, driver),
                     .longest_ms = head.waited_ms,
                     .confidence = head.confidence});
  const size_t requests = static_cast<size_t>(std::count_if(stalled.begin(), stalled.end(), is_long));
  const std::string where =
      head.irp->device_name.empty() ? driver : fmt::format("{} ({})", driver, head.irp->device_name);
  f.title = fmt::format("{} request{} not answered by the {} driver {}, the longest for {}; {}", requests,
                        requests == 1 ? " is" : "s are", waits::name(cls), where, duration(f.longest_ms),
                        counted(suffering.size(), "thread waits", "threads wait"));
  constexpr size_t kMostShown = 5;
  for (size_t i = 0; i < stalled.size() && i < kMostShown; i++) {
    const Stalled& s = stalled[i];
    f.evidence.push_back(c.about_irp(
        s.irp->irp.address,
        fmt::format(
            "{} waits {} for {} {} of {}, pending at {}{}", c.who(s.thread), duration(s.waited_ms),
            s.irp->major, s.irp->irp.address, s.irp->file.empty() ? "no file" : s.irp->file, s.irp->driver,
            s.behind.empty()
                ? ""
                : fmt::format("; {} behind it", counted(s.behind.size(), "thread waits", "threads wait"))),
        s.confidence));
  }
  if (waits::is_virtio_storage(driver)) {
    f.advice = {
        "The request is with the virtio driver: the guest has handed it to the host. Look at the host's "
        "storage: qemu's I/O errors, "
        "`virsh domblkstat`, `virsh domblkerror`, the back end's latency, a full or frozen volume.",
        "`virsh qemu-monitor-command DOMAIN --hmp 'info blockstats'` twice, ten seconds apart, shows whether "
        "requests complete at all."};
  } else if (cls == IoClass::storage) {
    f.advice = {
        "The request is with the guest's storage stack. Look at the virtual disk on the host (latency, "
        "errors, a full volume) and in the "
        "guest at System events 129 (reset to device), 153 (retried) and 7 (bad block).",
        "An IRP above a port driver whose queue is empty points to a filter between them: `!devstack` of its "
        "device shows it."};
  } else if (network) {
    f.advice = {
        "Another machine must answer: see which server the file is on, and whether it and the network path "
        "to it are alive.",
        "In the guest `Get-SmbConnection` and System events of the redirector (source mrxsmb, 30800 and up) "
        "name it."};
  } else {
    f.advice = {
        fmt::format("The request is held by {}. If that is an antivirus, backup or encryption filter, update "
                    "it or take it out for a test "
                    "(`fltmc`, `fltmc instances`).",
                    driver)};
  }
  f.waiting = suffering.size();
  f.on_symptom = c.touches_entry(head.thread, suffering);
  f.score = 20 + c.weight(suffering);
  findings.push_back(std::move(f));
}

void find(Context& c, std::vector<Finding>& findings) {
  for (auto& [driver, stalled] : collect(c)) add(c, driver, std::move(stalled), findings);
}

}  // namespace

extern const Rule io_stall_rule;
const Rule io_stall_rule{.name = "io-stall", .find = find};

}  // namespace unhang::diagnose
