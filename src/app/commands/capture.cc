// unhang capture: the dump, taken from the host while the symptom lasts.
#include <signal.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/analyze.h"
#include "app/capture/form.h"
#include "app/capture/take.h"
#include "app/capture/watch.h"
#include "app/interrupt.h"
#include "base/format.h"
#include "report/text.h"

namespace unhang::app {

namespace {

using namespace capture;

struct Options {
  CommonOptions common;
  std::string domain, connect, qmp, out;
  std::string format = "auto";
  std::string when_slow, probe;
  Watch watch;
  bool watches = false;  // an option of it was given
  std::optional<milliseconds> twice;
  bool analyze = false, overwrite = false;
};

// hang.elf: hang.2.elf
std::string second_path(const std::string& path) {
  const std::filesystem::path p(path);
  return (p.parent_path() / (p.stem().string() + ".2" + p.extension().string())).string();
}

std::vector<std::string> paths(const Options& o) {
  if (o.twice) return {o.out, second_path(o.out)};
  return {o.out};
}

Outcome<std::shared_ptr<Host>> connect(const Options& o) {
  if (o.domain.empty() == o.qmp.empty())
    return mistake("name either a libvirt domain or QEMU's own --qmp SOCKET");
  if (!o.qmp.empty()) return connect_qmp(o.qmp);
  return connect_libvirt(o.connect, o.domain);
}

// Everything that can be wrong, before anybody waits for a symptom.
Outcome<std::vector<std::string>> prepare(Host& host, const Options& o) {
  for (const std::string& path : paths(o)) {
    if (path == "-") return mistake("a dump does not go to standard output: name a file");
    struct stat st{};
    if (lstat(path.c_str(), &st) != 0) continue;
    if (!S_ISREG(st.st_mode)) return mistake(fmt::format("{}: the output must be a plain file", path));
    if (!o.overwrite) return mistake(fmt::format("{} exists; --overwrite replaces it", path));
  }
  const Guest guest = TRY(host.look());
  if (o.twice && !guest.running)
    return mistake(
        fmt::format("the guest does not run ({}): two dumps of it would be the same", guest.state));
  const auto offered = TRY(host.formats());
  auto formats =
      TRY(choose_formats(o.format, guest, offered, TRY(free_space(o.out)), paths(o).size(), o.out));
  if (o.format == "migration" && !guest.running)
    return mistake(
        fmt::format("the guest does not run ({}): QEMU sends the stream of such a guest only once, and a "
                    "later `virsh save` would fail; take --format elf",
                    guest.state));
  return formats;
}

Node dump_taken_node(const Taken& t) {
  Node n = Node::map();
  n["output"] = t.path;
  n["format"] = t.format;
  n["file_size"] = t.size;
  n["on_disk"] = t.on_disk;
  n["state_before"] = t.before.state;
  n["ran_before"] = t.before.running;
  n["took_ms"] = static_cast<i64>(t.took.count());
  n["paused_ms"] = t.paused ? Node(static_cast<i64>(t.paused->count())) : Node();
  return n;
}

Outcome<void> take_all(const std::shared_ptr<Host>& host, const Options& o, Node& dumps) {
  for (const std::string& path : paths(o)) {
    if (!dumps.empty() && !Interrupt::sleep(*o.twice))
      return trouble("ended by a signal before the second dump; the first is whole");
    // The disk may have filled while we waited.
    const auto formats = choose_formats(o.format, TRY(host->look()), TRY(host->formats()),
                                        TRY(free_space(o.out)), paths(o).size() - dumps.size(), path);
    const Taken t = TRY(take_dump(host, TRY(formats), path));
    dumps.add(dump_taken_node(t));
  }
  return {};
}

Outcome<std::unique_ptr<Probe>> make_probe(const Options& o) {
  if (!o.when_slow.empty() && !o.probe.empty()) return mistake("either --when-slow or --probe, not both");
  if (!o.when_slow.empty()) return shell_probe(o.when_slow);
  if (o.probe.empty() && o.watches)
    return mistake("--over, --every and --for belong to --when-slow or --probe: what is to be watched?");
  if (o.probe.empty()) return std::unique_ptr<Probe>();
  if (o.probe.starts_with("rdp:")) return rdp_probe(o.probe.substr(4));
  return mistake(fmt::format("{}: the probes are rdp:HOST[:PORT]", o.probe));
}

// The report; nothing to analyse in it when the symptom never came.
Outcome<Node> capture_all(const Options& o) {
  const auto probe = TRY(make_probe(o));
  auto host = TRY(connect(o));
  TRY(prepare(*host, o));
  Node n = Node::shaped("captured");
  n["guest"] = TRY(host->look()).name;
  n["host"] = host->name();
  n["memory"] = TRY(host->look()).memory;
  Node watched, dumps = Node::list();
  if (probe) {
    const auto begun = Clock::now();
    // Hours may pass: a QMP socket serves one program at a time, and daemons are started again.
    host.reset();
    const Watched watch = TRY(wait_until_slow(*probe, o.watch));
    watched["probe"] = probe->name();
    watched["over_ms"] = static_cast<i64>(o.watch.over.count());
    watched["watched_ms"] = static_cast<i64>(since(begun).count());
    watched["slow"] = watch.slow_since.has_value();
    watched["probes"] = watch.probes;
    watched["failed"] = watch.failed;
    if (watch.slow_since) {
      watched["ran_ms"] = static_cast<i64>(since(*watch.slow_since).count());
      TRY_VOID(take_all(TRY(connect(o)), o, dumps));
      // Whether the dump shows the symptom: when the answer came meanwhile, it may not.
      watched["lasted"] = !TRY(probe->wait(milliseconds(0)));
      probe->stop();
    }
  } else {
    TRY_VOID(take_all(host, o, dumps));
  }
  n["dumps"] = std::move(dumps);
  n["watch"] = std::move(watched);
  return n;
}

// A QMP server's answers may have any types.
Outcome<Node> capture_guarded(const Options& o) {
  try {
    return capture_all(o);
  } catch (const nlohmann::json::exception&) {
    return trouble(fmt::format("{}: what answers there does not speak as QEMU does", o.qmp));
  }
}

int run_guarded(const Options& o) {
  const auto n = capture_guarded(o);
  if (!n) {
    complain(n.error().sentence);
    return n.error().machine ? kMachineError : kUserError;
  }
  if (!o.analyze || n->get("dumps").empty()) return output(*n, o.common);
  // Standard output is the analysis's.
  report::Text text(false);
  text.print(*n);
  fmt::print(stderr, "{}", text.str());
  return kDone;
}

int run(const Options& o) {
  int status = kDone, signal = 0;
  {
    const Interrupt guard;
    status = run_guarded(o);
    signal = Interrupt::signal();
  }
  // Who started us shall see what ended us.
  if (signal != 0) raise(signal);
  std::error_code none;
  if (status != kDone || !o.analyze || !std::filesystem::exists(o.out, none)) return status;
  CommonOptions common = o.common;
  common.dump = o.out;
  return analyze(common);
}

template <class Set>
void add_duration(CLI::App& app, const char* name, const char* help, Set set) {
  app.add_option_function<std::string>(
         name,
         [set](const std::string& text) {
           const auto d = parse_duration(text);
           if (!d) throw CLI::ValidationError(text + " is no duration: wanted is 500ms, 60s, 5m, 2h");
           set(*d);
         },
         help)
      ->type_name("TIME");
}

void set_up(CLI::App& app, int& status) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.remove_option(app.get_option("DUMP"));
  app.add_option("DOMAIN", o->domain, "the libvirt domain: its name, UUID or number");
  // CLI11 takes "" for a value: a script's variable that is not set would mean a dump at once.
  const CLI::Validator not_empty(
      [](const std::string& s) { return s.empty() ? std::string("it may not be empty") : std::string(); },
      "");
  app.add_option("-o,--output", o->out, "the file to write")->required()->check(not_empty);
  const char* uri = std::getenv("LIBVIRT_DEFAULT_URI");
  o->connect = uri != nullptr && *uri != 0 ? uri : "qemu:///system";
  app.add_option("--connect", o->connect, "libvirt's URI, of this machine")
      ->type_name("URI")
      ->check(not_empty)
      ->capture_default_str();
  app.add_option("--qmp", o->qmp, "QEMU's own control socket instead of a domain")->type_name("SOCKET");
  app.add_option(
         "--format", o->format,
         "auto: elf, or the quickest compressed form if the disk has no room for that. migration (libvirt "
         "only) lets the guest run while most of its memory is copied")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kFormats), std::end(kFormats))))
      ->capture_default_str();
  app.add_flag("--overwrite", o->overwrite, "replace the file if it exists");
  app.add_option("--when-slow", o->when_slow,
                 "run this shell command again and again, and capture while it takes longer than --over")
      ->type_name("COMMAND")
      ->check(not_empty);
  app.add_option(
         "--probe", o->probe,
         "rdp:HOST[:PORT]: the same with a connection to Remote Desktop. It times the answers of TermService "
         "to the connection request and of the logon service (LSA) to the TLS handshake; it does not log on")
      ->type_name("PROBE")
      ->check(not_empty);
  const auto watching = [&](const char* name, const char* help, auto set) {
    add_duration(app, name, help, [o, set](milliseconds d) {
      o->watches = true;
      set(o->watch, d);
    });
  };
  watching("--over", "how long is slow [60s]", [](Watch& w, milliseconds d) { w.over = d; });
  watching("--every", "pause between two probes [30s]", [](Watch& w, milliseconds d) { w.every = d; });
  watching("--for", "give up after this time, with exit status 0; 2 if the probe failed each time",
           [](Watch& w, milliseconds d) { w.at_most = d; });
  add_duration(app, "--twice",
               "take a second dump (FILE.2) after this time: what stands still in both is stuck",
               [o](milliseconds d) { o->twice = d; });
  app.add_flag("--analyze", o->analyze, "go on to the verdict, of the first dump");
  app.callback([o, &status] { status = run(*o); });
}

}  // namespace

extern const Command capture_command;
const Command capture_command{
    .name = "capture", .help = "take the dump, while the symptom lasts", .order = 7, .set_up = set_up};

}  // namespace unhang::app
