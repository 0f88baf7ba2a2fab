// The two kinds of commands: what stands behind `unhang` on the command line, and what `run` executes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/session.h"
#include "base/node.h"

namespace CLI {
class App;
}

namespace unhang::app {

// Exit statuses (DESIGN section 6).
enum Exit : int { kDone = 0, kHangFound = 1, kUserError = 2, kMachineError = 3 };

// What every command that opens a dump understands.
struct CommonOptions {
  std::string dump;
  nt::TargetOptions target;
  std::string json;  // where to write JSON; empty: text to standard output
  bool no_cache = false;
};

// A subcommand: one file each under commands/.
struct Command {
  const char* name;
  const char* help;
  int order;  // in the help
  // Adds options and arguments and sets the function that runs; it returns an Exit.
  void (*set_up)(CLI::App& app, int& status);
};

// A debugger command: one file each under debugger/.
struct DebuggerCommand {
  // First the name in the help, then others: "!locks".
  std::vector<const char*> names;
  const char* usage;
  const char* help;
  Result<Node> (*run)(Session& session, const std::vector<std::string>& args);
};

// Shared by the subcommands (app/common.cc).
void add_common_options(CLI::App& app, CommonOptions& options);
// Opens a session, or prints one sentence and returns nothing; status is then set.
std::unique_ptr<Session> open_session(const CommonOptions& options, int& status);
// The two steps of it, for who has something to say of a dump without a Windows.
std::optional<dump::DumpFile> open_dump(const CommonOptions& options, int& status);
std::unique_ptr<Session> open_session(dump::DumpFile dump, const CommonOptions& options, int& status);
// Prints a node as text to standard output, or writes JSON where the user wants it. Returns an Exit.
int output(const Node& node, const CommonOptions& options);
// "unhang: ..." on standard error.
void complain(const std::string& sentence);

// Runs one line: "!thread fffffa80`0b61bb50". Errors: unsupported (no such command), those of the command.
Result<Node> run_line(Session& session, const std::string& line);

}  // namespace unhang::app
