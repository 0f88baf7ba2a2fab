// unhang: the program. Subcommands set themselves up (commands/); `analyze` is what happens without one.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <new>

#include "app/command.h"
#include "base/format.h"
#include "commands.plugs.h"

namespace unhang::app {

namespace {

const Command* find_command(std::string_view name) {
  for (const Command* c : kCommands)
    if (name == c->name) return c;
  return nullptr;
}

// `unhang DUMP` means `unhang analyze DUMP`, and `--json` alone means `--json -`: a file name behind it ends
// with ".json", because what follows may as well be the dump or a command.
std::vector<std::string> normalise(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  const bool about_us =
      args.empty() || args.front() == "--help" || args.front() == "-h" || args.front() == "--version";
  if (!about_us && find_command(args.front()) == nullptr) args.insert(args.begin(), "analyze");
  for (size_t i = 0; i < args.size(); i++) {
    if (args[i] != "--json") continue;
    const std::string next = i + 1 < args.size() ? args[i + 1] : "";
    const bool file = next == "-" || next.ends_with(".json");
    if (!file) args.insert(args.begin() + static_cast<std::ptrdiff_t>(i) + 1, "-");
    i++;
  }
  return args;
}

int run(int argc, char** argv) {
  CLI::App app(
      "unhang tells why a Windows VM hangs, from a memory dump of it.\n\nunhang DUMP is the same as unhang "
      "analyze DUMP.",
      "unhang");
  app.set_version_flag("--version", UNHANG_VERSION);
  app.require_subcommand(0, 1);
  int status = kDone;
  std::vector<const Command*> commands(std::begin(kCommands), std::end(kCommands));
  std::stable_sort(commands.begin(), commands.end(),
                   [](const Command* a, const Command* b) { return a->order < b->order; });
  for (const Command* c : commands) c->set_up(*app.add_subcommand(c->name, c->help), status);
  std::vector<std::string> args = normalise(argc, argv);
  if (args.empty()) {
    fmt::print("{}", app.help());
    return kUserError;
  }
  std::reverse(args.begin(), args.end());
  try {
    app.parse(args);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    complain(fmt::format("{} (--help shows how)", e.what()));
    return kUserError;
  }
  return status;
}

}  // namespace

}  // namespace unhang::app

int main(int argc, char** argv) {
  // A limit on the size of files shall be an error of writing, with a sentence.
  ::signal(SIGXFSZ, SIG_IGN);
  try {
    return unhang::app::run(argc, argv);
  } catch (const std::bad_alloc&) {
    unhang::app::complain("out of memory");
    return unhang::app::kMachineError;
  } catch (const std::exception& e) {
    unhang::app::complain(e.what());
    return unhang::app::kMachineError;
  }
}
