#include "diagnose/pending_io.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "base/format.h"
#include "nt/objects/device.h"

namespace unhang::diagnose {

namespace {

// The driver of a request; its device may be on a page that the dump does not have.
std::string driver_of(const IrpNode& irp) {
  return irp.driver.empty() ? fmt::format("a driver that cannot be read (device {})", irp.driver_device)
                            : irp.driver;
}

std::string file_of(const IrpNode& irp) {
  if (!irp.file.empty()) return irp.file;
  return is_kernel(irp.file_object) ? fmt::format("a file that cannot be read ({})", irp.file_object)
                                    : "no file";
}

}  // namespace

std::string PendingAt::where() const {
  std::string s = device.empty() ? driver : fmt::format("{} ({})", driver, device);
  if (!bottom.empty() && bottom != driver) s += " above " + bottom;
  return s;
}

std::vector<PendingAt> pending_io(const Context& c,
                                  const std::function<bool(const ThreadNode&, const IrpNode&)>& counts) {
  // Disks by the lowest device of their stack, null for others; then by driver and name.
  std::map<std::tuple<VirtAddr, std::string, std::string>, std::vector<Pending>> by_device;
  for (const waits::Edge& e : c.world.edges) {
    if (std::string_view(e.kind) != "IRP") continue;
    const ThreadNode* t = c.world.thread(e.from);
    if (t == nullptr) continue;
    for (const size_t i : t->irps) {
      const IrpNode& irp = c.world.irps[i];
      if (irp.irp.address != e.object || !counts(*t, irp)) continue;
      const bool disk = waits::io_class(irp) == waits::IoClass::storage && is_kernel(irp.driver_device);
      const auto key = disk ? std::tuple(nt::device_stack(c.world.target(), irp.driver_device).back(),
                                         std::string(), std::string())
                            : std::tuple(VirtAddr(), irp.driver, irp.device_name);
      // A thread that ends looks again and again whether its request is back: its own wait is always young.
      const waits::Behind behind = c.graph.behind(e.from);
      const u64 waited =
          std::max(t->thread.waited_ms.value_or(0), t->thread.ending() ? behind.longest_ms : 0);
      by_device[key].push_back({e.from, &irp, waited, e.confidence, behind.threads});
    }
  }
  std::vector<PendingAt> out;
  for (auto& [device, requests] : by_device) {
    std::stable_sort(requests.begin(), requests.end(), [](const Pending& a, const Pending& b) {
      return a.behind.size() != b.behind.size() ? a.behind.size() > b.behind.size()
                                                : a.waited_ms > b.waited_ms;
    });
    const VirtAddr bottom = std::get<0>(device);
    const IrpNode& first = *requests.front().irp;
    out.push_back({.driver = driver_of(first),
                   .device = first.device_name,
                   .bottom = bottom.is_null() ? "" : nt::driver_name_of_device(c.world.target(), bottom),
                   .requests = std::move(requests)});
  }
  return out;
}

std::vector<PendingAt> disk_requests(const Context& c) {
  return pending_io(c, [&c](const ThreadNode& t, const IrpNode& irp) {
    if (t.thread.ending()) return false;
    const waits::IoClass k = waits::io_class(irp);
    // A driver of unknown kind may answer when it likes; who holds up others while he waits for it may not.
    if (k == waits::IoClass::other) return !c.graph.behind(t.thread.address).threads.empty();
    return k == waits::IoClass::storage || k == waits::IoClass::filter || k == waits::IoClass::file_system;
  });
}

bool writes_stall(const PendingAt& at) {
  return std::any_of(at.requests.begin(), at.requests.end(), [](const Pending& p) {
    const nt::IrpStackLocation* l = p.irp->irp.current();
    return p.is_long() && l != nullptr && (l->major == nt::kMjWrite || l->major == nt::kMjFlushBuffers);
  });
}

namespace {

// Requests of threads' lists that lie at the same devices and that nobody waits for: who sends them goes on,
// as database servers do. How long they have been there is recorded nowhere.
size_t asynchronous(const Context& c, const PendingAt& at) {
  std::set<VirtAddr> devices, waited_for;
  for (const Pending& p : at.requests) {
    devices.insert(p.irp->driver_device);
    waited_for.insert(p.irp->irp.address);
  }
  return static_cast<size_t>(std::count_if(c.world.irps.begin(), c.world.irps.end(), [&](const IrpNode& i) {
    return i.irp.current() != nullptr && devices.contains(i.driver_device) &&
           !waited_for.contains(i.irp.address);
  }));
}

}  // namespace

std::optional<Finding> finding_about(const Context& c, const PendingAt& at, const char* rule) {
  const auto head =
      std::find_if(at.requests.begin(), at.requests.end(), [](const Pending& p) { return p.is_long(); });
  if (head == at.requests.end()) return std::nullopt;
  Finding f{.rule = rule, .verdict = rule, .confidence = head->confidence};
  // What kind of device it is was told by a type alone, or by nothing.
  if (head->irp->driver.empty()) f.confidence = weaker(f.confidence, Confidence::heuristic);
  std::vector<VirtAddr> suffering;
  size_t requests = 0;
  for (const Pending& p : at.requests) {
    if (!p.is_long()) continue;
    requests++;
    suffering.push_back(p.thread);
    suffering.insert(suffering.end(), p.behind.begin(), p.behind.end());
    f.longest_ms = std::max(f.longest_ms, p.waited_ms);
  }
  std::sort(suffering.begin(), suffering.end());
  suffering.erase(std::unique(suffering.begin(), suffering.end()), suffering.end());
  f.culprit = c.culprit(head->thread);
  f.culprit.driver = head->irp->driver;
  f.culprit.file = head->irp->file;
  f.chain = c.chain_to(head->thread);
  f.chain.push_back({.waiters = {head->thread},
                     .object = head->irp->irp.address,
                     .kind = "IRP",
                     .name = fmt::format("{} at {}", head->irp->major, driver_of(*head->irp)),
                     .longest_ms = head->waited_ms,
                     .confidence = head->confidence});
  const waits::IoClass kind = waits::io_class(*head->irp);
  f.title = fmt::format(
      "{} request{} not answered by {}{}, the longest for {}; {}", requests, requests == 1 ? " is" : "s are",
      head->irp->driver.empty()       ? ""
      : kind == waits::IoClass::other ? "the driver "
                                      : fmt::format("the {} driver ", waits::name(kind)),
      at.where(), duration(f.longest_ms), counted(suffering.size(), "thread waits", "threads wait"));
  constexpr size_t kMostShown = 5;
  for (size_t i = 0; i < at.requests.size() && i < kMostShown; i++) {
    const Pending& p = at.requests[i];
    f.evidence.push_back(c.about_irp(
        p.irp->irp.address,
        fmt::format("{} waits {} for {} {} of {}, pending at {}{}", c.who(p.thread), duration(p.waited_ms),
                    p.irp->major, p.irp->irp.address, file_of(*p.irp), driver_of(*p.irp),
                    p.behind.empty() ? ""
                                     : fmt::format("; {} behind it",
                                                   counted(p.behind.size(), "thread waits", "threads wait"))),
        p.confidence));
  }
  if (at.requests.size() > kMostShown)
    f.evidence.push_back(
        {.text = fmt::format("and {} there", counted(at.requests.size() - kMostShown,
                                                     "more request is pending", "more requests are pending")),
         .confidence = Confidence::exact,
         .reads = {},
         .check = ""});
  if (const size_t others = asynchronous(c, at); others != 0)
    f.evidence.push_back({.text = fmt::format("and {} there that no thread waits for (asynchronous)",
                                              counted(others, "request is pending", "requests are pending")),
                          .confidence = Confidence::exact,
                          .reads = {},
                          .check = "!irpfind"});
  f.on_symptom = c.touches_entry(head->thread, suffering);
  f.score = 20 + c.weight(suffering);
  f.waiting = std::move(suffering);
  return f;
}

}  // namespace unhang::diagnose
