#include "diagnose/pending_io.h"

#include <algorithm>

#include "base/format.h"

namespace unhang::diagnose {

std::string PendingAt::where() const {
  return device.empty() ? driver : fmt::format("{} ({})", driver, device);
}

std::vector<PendingAt> pending_io(const Context& c,
                                  const std::function<bool(const ThreadNode&, const IrpNode&)>& counts) {
  std::map<std::pair<std::string, std::string>, std::vector<Pending>> by_device;
  for (const waits::Edge& e : c.world.edges) {
    if (std::string_view(e.kind) != "IRP") continue;
    const ThreadNode* t = c.world.thread(e.from);
    if (t == nullptr) continue;
    for (const size_t i : t->irps) {
      const IrpNode& irp = c.world.irps[i];
      if (irp.irp.address != e.object || !counts(*t, irp)) continue;
      by_device[{irp.driver, irp.device_name}].push_back(
          {e.from, &irp, t->thread.waited_ms.value_or(0), e.confidence, c.graph.behind(e.from).threads});
    }
  }
  std::vector<PendingAt> out;
  for (auto& [device, requests] : by_device) {
    std::stable_sort(requests.begin(), requests.end(), [](const Pending& a, const Pending& b) {
      return a.behind.size() != b.behind.size() ? a.behind.size() > b.behind.size()
                                                : a.waited_ms > b.waited_ms;
    });
    out.push_back({device.first, device.second, std::move(requests)});
  }
  return out;
}

std::optional<Finding> finding_about(const Context& c, const PendingAt& at, const char* rule) {
  const auto head =
      std::find_if(at.requests.begin(), at.requests.end(), [](const Pending& p) { return p.is_long(); });
  if (head == at.requests.end()) return std::nullopt;
  Finding f{.rule = rule, .verdict = rule, .confidence = head->confidence};
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
  f.culprit.driver = at.driver;
  f.culprit.file = head->irp->file;
  f.chain = c.chain_to(head->thread);
  f.chain.push_back({.waiters = {head->thread},
                     .object = head->irp->irp.address,
                     .kind = "IRP",
                     .name = fmt::format("{} at {}", head->irp->major, at.driver),
                     .longest_ms = head->waited_ms,
                     .confidence = head->confidence});
  f.title = fmt::format("{} request{} not answered by the {} driver {}, the longest for {}; {}", requests,
                        requests == 1 ? " is" : "s are", waits::name(waits::io_class(*head->irp)), at.where(),
                        duration(f.longest_ms), counted(suffering.size(), "thread waits", "threads wait"));
  constexpr size_t kMostShown = 5;
  for (size_t i = 0; i < at.requests.size() && i < kMostShown; i++) {
    const Pending& p = at.requests[i];
    f.evidence.push_back(c.about_irp(
        p.irp->irp.address,
        fmt::format(
            "{} waits {} for {} {} of {}, pending at {}{}", c.who(p.thread), duration(p.waited_ms),
            p.irp->major, p.irp->irp.address, p.irp->file.empty() ? "no file" : p.irp->file, p.irp->driver,
            p.behind.empty()
                ? ""
                : fmt::format("; {} behind it", counted(p.behind.size(), "thread waits", "threads wait"))),
        p.confidence));
  }
  if (at.requests.size() > kMostShown)
    f.evidence.push_back(
        {.text = fmt::format("and {} there", counted(at.requests.size() - kMostShown,
                                                     "more request is pending", "more requests are pending")),
         .confidence = Confidence::exact,
         .reads = {},
         .check = ""});
  f.waiting = suffering.size();
  f.on_symptom = c.touches_entry(head->thread, suffering);
  f.score = 20 + c.weight(suffering);
  return f;
}

}  // namespace unhang::diagnose
