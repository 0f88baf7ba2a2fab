// Threads wait for another machine: a file on a share, a call over the network.
#include <algorithm>

#include "base/format.h"
#include "diagnose/pending_io.h"

namespace unhang::diagnose {

namespace {

using waits::IoClass;

// A receive on a socket below the RPC runtime: a remote procedure call over TCP that is not answered. Module
// names are known without symbols.
bool rpc_over_socket(const ThreadNode& t, const IrpNode& irp) {
  if (waits::driver_short_name(irp.driver) != "afd") return false;
  return std::any_of(t.stack.symbols.begin(), t.stack.symbols.end(), [](std::string_view s) {
    const std::string_view module = s.substr(0, s.find_first_of("!+"));
    return module == "rpcrt4" || module == "RPCRT4";
  });
}

void find(Context& c, std::vector<Finding>& findings) {
  const auto counts = [](const ThreadNode& t, const IrpNode& irp) {
    return waits::io_class(irp) == IoClass::network || rpc_over_socket(t, irp);
  };
  for (const PendingAt& at : pending_io(c, counts)) {
    auto f = finding_about(c, at, "remote-wait");
    if (!f) continue;
    const bool rpc = waits::driver_short_name(at.driver) == "afd";
    if (rpc) {
      // Servers of RPC wait on sockets by design; who has callers behind him does not.
      const bool behind = std::any_of(at.requests.begin(), at.requests.end(),
                                      [](const Pending& p) { return p.is_long() && !p.behind.empty(); });
      if (!behind) continue;
      f->confidence = weaker(f->confidence, Confidence::heuristic);
      f->title =
          fmt::format("a remote procedure call over the network is not answered, the longest wait is {}; {}",
                      duration(f->longest_ms), counted(f->waiting.size(), "thread waits", "threads wait"));
      f->advice = {
          "Find out which server the process calls (its open connections, or the RPC binding on its "
          "stack), and whether that one answers.",
          "A domain controller, DNS or licence server that is gone shows up in just this way at logon."};
    } else {
      f->advice = {
          "Another machine must answer: see which server the file is on, and whether it and the network path "
          "to it are alive.",
          "In the guest `Get-SmbConnection` and System events of the redirector (source mrxsmb, 30800 and "
          "up) "
          "name it."};
    }
    // A local disk that stands still holds up everybody sooner or later; another machine only who asks it.
    constexpr double kBehindDisks = 5;
    f->score -= kBehindDisks;
    findings.push_back(std::move(*f));
  }
}

}  // namespace

extern const Rule remote_wait_rule;
const Rule remote_wait_rule{.name = "remote-wait", .find = find};

}  // namespace unhang::diagnose
