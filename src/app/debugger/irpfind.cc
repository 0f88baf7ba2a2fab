// !irpfind [-v] [PoolType [Restart [Criteria Data]]]: pending I/O requests anywhere in memory.
#include <algorithm>
#include <ranges>

#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "app/views/view.h"
#include "base/format.h"
#include "nt/irp_scan.h"
#include "nt/objects/device.h"

namespace unhang::app {

namespace {

bool matches(const nt::Irp& irp, const std::string& criteria, VirtAddr data) {
  const auto any = [&](const auto& test) { return std::ranges::any_of(irp.locations, test); };
  if (criteria == "thread") return irp.thread == data;
  if (criteria == "userevent") return irp.user_event == data;
  if (criteria == "device") return any([&](const auto& l) { return l.device == data; });
  if (criteria == "fileobject")
    return irp.original_file == data || any([&](const auto& l) { return l.file == data; });
  if (criteria == "arg")
    return any(
        [&](const auto& l) { return std::ranges::find(l.arguments, data.value()) != std::end(l.arguments); });
  return true;
}

// Options and words of WinDbg's that say where to look: all memory is looked at.
struct Request {
  bool verbose = false;
  std::string criteria;
  VirtAddr data{};
};

Result<Request> request_of(Session& session, const std::vector<std::string>& args) {
  Request r;
  std::vector<std::string> words;
  for (const std::string& a : args)
    if (a == "-v")
      r.verbose = true;
    else
      words.push_back(a);
  if (words.size() < 3) return r;
  r.criteria = words[2];
  static constexpr std::string_view kKnown[] = {"arg", "device", "fileobject", "thread", "userevent"};
  if (std::ranges::find(kKnown, r.criteria) == std::end(kKnown) || words.size() != 4)
    return fail(Error{.why = Why::unsupported,
                      .detail = "criteria are arg, device, fileobject, thread or userevent, and an address: "
                                "!irpfind 0 0 device ADDRESS"});
  r.data = TRY(evaluate(session, words[3]));
  return r;
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  const Request request = TRY(request_of(session, args));
  const nt::Target& target = session.target();
  const nt::IrpScan scan = nt::find_irps(target, {});
  Node n = lines_node();
  u64 shown = 0;
  for (const VirtAddr va : scan.irps) {
    const auto irp = nt::read_irp(target, va);
    if (!irp || irp->current() == nullptr || !matches(*irp, request.criteria, request.data)) continue;
    shown++;
    const nt::IrpStackLocation& at = *irp->current();
    const std::string driver = nt::driver_name_of_device(target, at.device);
    Node& line = add_line(n, fmt::format("{:016x} Thread {:016x} current stack belongs to  {}", va.value(),
                                         irp->thread.value(), driver.empty() ? "?" : driver));
    line["irp"] = va;
    line["thread"] = irp->thread.is_null() ? Node() : Node(irp->thread);
    line["device"] = at.device;
    line["driver"] = driver.empty() ? Node() : Node(driver);
    line["major"] = nt::major_name(at.major);
    line["cancelled"] = irp->cancel;
    if (request.verbose)
      add_line(n, fmt::format("    {}{}, device {:016x}, file {:016x}, user event {:016x}{}",
                              nt::major_name(at.major),
                              nt::minor_name(at.major, at.minor).empty()
                                  ? ""
                                  : fmt::format(" {}", nt::minor_name(at.major, at.minor)),
                              at.device.value(), at.file.value(), irp->user_event.value(),
                              irp->cancel ? ", cancelled" : ""));
  }
  n["note"] = scan.bytes_scanned < scan.bytes_total
                  ? fmt::format("\n{} shown; the time was up after {} of {} MiB of memory", shown,
                                scan.bytes_scanned >> 20, scan.bytes_total >> 20)
                  : fmt::format("\n{} pending in what the dump holds", counted(shown, "IRP is", "IRPs are"));
  return n;
}

}  // namespace

extern const DebuggerCommand irpfind_debugger_command;
const DebuggerCommand irpfind_debugger_command{
    .names = {"!irpfind"},
    .usage = "!irpfind [-v] [0 0 device|fileobject|thread|userevent|arg ADDRESS]",
    .help = "pending I/O requests anywhere in memory",
    .run = run};

}  // namespace unhang::app
