// unhang analyze: the verdict.
#include "app/analyze.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "app/command.h"
#include "app/expression.h"
#include "app/views/view.h"
#include "base/ascii.h"
#include "base/format.h"

namespace unhang::app {

namespace {

struct Options {
  CommonOptions common;
  std::string symptom, process, thread;
  u32 scan_ms = 4000;
  int why = 0;
};

// Threads of the processes that a symptom speaks of.
constexpr std::string_view kRdpLogon[] = {"winlogon.exe", "logonui.exe",  "lsass.exe",
                                          "csrss.exe",    "userinit.exe", "explorer.exe",
                                          "rdpclip.exe",  "dwm.exe",      "services.exe"};

bool hosts_terminal_services(const waits::ProcessNode& p) {
  const std::string c = lower(p.process.command_line);
  return lower(p.process.name) == "svchost.exe" &&
         (c.find("termsvcs") != c.npos || c.find("termservice") != c.npos);
}

// An address, or what the report calls a thread: "3536.3428", or 3428 alone. Null: there is none.
VirtAddr entry_thread(Session& session, const std::string& name) {
  const waits::World& w = session.world();
  if (const auto va = evaluate(session, name); va && w.thread(*va) != nullptr) return *va;
  for (const waits::ThreadNode& t : w.threads)
    if (!t.idle_thread &&
        (fmt::format("{}.{}", t.thread.pid, t.thread.tid) == name || std::to_string(t.thread.tid) == name))
      return t.thread.address;
  return {};
}

// The threads to start from. An empty list with a message: the user named what is not there.
std::vector<VirtAddr> entry_threads(Session& session, const Options& o, std::string& message) {
  std::vector<VirtAddr> threads;
  const waits::World& w = session.world();
  if (!o.thread.empty()) {
    const VirtAddr va = entry_thread(session, o.thread);
    if (va.is_null()) {
      message = fmt::format("{}: no such thread in the dump", o.thread);
      return threads;
    }
    threads.push_back(va);
  }
  for (const waits::ProcessNode& p : w.processes) {
    const std::string name = lower(p.process.name);
    const bool by_symptom = !o.symptom.empty() && (std::find(std::begin(kRdpLogon), std::end(kRdpLogon),
                                                             name) != std::end(kRdpLogon) ||
                                                   hosts_terminal_services(p));
    const bool by_process =
        !o.process.empty() && (name == lower(o.process) || name == lower(o.process) + ".exe" ||
                               std::to_string(p.process.pid) == o.process);
    if (!by_symptom && !by_process) continue;
    for (const size_t t : p.threads) threads.push_back(w.threads[t].thread.address);
  }
  if (threads.empty() && !o.process.empty())
    message = fmt::format("{}: no such process in the dump", o.process);
  if (threads.empty() && !o.symptom.empty()) message = "no logon process is in the dump";
  return threads;
}

int run(const Options& o) {
  int status = kDone;
  const auto session = open_session(o.common, status);
  if (!session) return status;
  diagnose::Options options;
  options.symptom = o.symptom;
  options.scan.budget = std::chrono::milliseconds(o.scan_ms);
  options.why = o.why != 0;
  if (!o.symptom.empty() || !o.process.empty() || !o.thread.empty()) {
    std::string message;
    options.entry_threads = entry_threads(*session, o, message);
    if (!message.empty()) {
      complain(message);
      return kUserError;
    }
  }
  const diagnose::Diagnosis d = diagnose::diagnose(session->world(), options);
  Node node = analysis_node(*session, d, options);
  status = output(node, o.common);
  if (status != kDone) return status;
  // An unknown verdict with a finding is a chain whose end the dump does not explain: threads hang in it.
  return d.verdict.finding ? kHangFound : kDone;
}

void set_up(CLI::App& app, int& status) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("--symptom", o->symptom, "start from what users see: rdp-logon")
      ->check(CLI::IsMember({"rdp-logon"}));
  app.add_option("--process", o->process, "start from the threads of a process: its name or PID");
  app.add_option("--thread", o->thread,
                 "start from a thread: its address, or PID.TID as the report names it");
  app.add_option("--scan-ms", o->scan_ms, "time that searching all memory for NTFS records may take")
      ->capture_default_str();
  app.add_flag("--why", o->why,
               "show for each piece of evidence the member reads, addresses and file offsets behind it");
  app.callback([o, &status] { status = run(*o); });
}

}  // namespace

int analyze(const CommonOptions& common) {
  return run(Options{.common = common});
}

extern const Command analyze_command;
const Command analyze_command{.name = "analyze",
                              .help = "say why the machine hangs, with evidence and what to do next",
                              .order = 1,
                              .set_up = set_up};

}  // namespace unhang::app
