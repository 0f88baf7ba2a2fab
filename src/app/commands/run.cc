// unhang run: debugger commands under WinDbg's names.
#include <CLI/CLI.hpp>
#include <memory>

#include "app/command.h"
#include "base/format.h"
#include "debugger.plugs.h"

namespace unhang::app {

namespace {

struct Options {
  CommonOptions common;
  std::vector<std::string> lines;
};

std::string list_of_commands() {
  std::string s = "Commands:\n";
  for (const DebuggerCommand* c : kDebuggerCommands) s += fmt::format("  {:<34} {}\n", c->usage, c->help);
  return s;
}

// "a; b" are two commands, as at a debugger's prompt; quotes keep a name together.
std::vector<std::string> single_commands(const std::vector<std::string>& lines) {
  std::vector<std::string> out;
  for (const std::string& line : lines) {
    std::string command;
    bool quoted = false;
    for (const char c : line + ';') {
      quoted ^= c == '"';
      if (c != ';' || quoted) {
        if (c != ' ' || !command.empty()) command += c;
        continue;
      }
      if (!command.empty()) out.push_back(std::move(command));
      command.clear();
    }
    if (!command.empty()) out.push_back(std::move(command));  // a quote that is not closed
  }
  return out;
}

int run(const Options& o) {
  int status = kDone;
  const auto session = open_session(o.common, status);
  if (!session) return status;
  Node all = Node::list();
  const std::vector<std::string> lines = single_commands(o.lines);
  for (const std::string& line : lines) {
    auto result = run_line(*session, line);
    if (!result) {
      complain(fmt::format("{}: {}", line, text(result.error())));
      status = kUserError;
      continue;
    }
    if (!o.common.json.empty()) {
      Node item = Node::map();
      item["command"] = line;
      item["result"] = std::move(*result);
      all.add(std::move(item));
      continue;
    }
    if (lines.size() > 1) fmt::print("unhang> {}\n", line);
    const int printed = output(*result, o.common);
    if (printed != kDone) return printed;
  }
  if (!o.common.json.empty())
    if (const int printed = output(all, o.common); printed != kDone) return printed;
  return status;
}

void set_up(CLI::App& app, int& status) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("COMMAND", o->lines, "commands, each quoted as one word: '!locks' '!thread ADDRESS'")
      ->required();
  app.footer(list_of_commands());
  app.callback([o, &status] { status = run(*o); });
}

}  // namespace

extern const Command run_command;
const Command run_command{
    .name = "run",
    .help = "run debugger commands under WinDbg's names: !locks, !thread, !irp, k, dt ...",
    .order = 3,
    .set_up = set_up};

}  // namespace unhang::app
