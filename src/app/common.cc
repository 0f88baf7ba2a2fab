#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "app/command.h"
#include "app/progress_line.h"
#include "base/format.h"
#include "report/json.h"
#include "report/text.h"

namespace unhang::app {

void complain(const std::string& sentence) {
  // Words of others (a QMP server's, a file's name) do not steer the terminal.
  std::string plain = sentence;
  std::replace_if(
      plain.begin(), plain.end(), [](char c) { return static_cast<u8>(c) < ' ' || c == 0x7f; }, ' ');
  fmt::print(stderr, "unhang: {}\n", plain);
}

namespace {

// Why JSON is not written there; empty: it may be. A slip of the hand must not cost a dump.
std::string not_to_be_replaced(const std::string& path) {
  std::error_code none;
  if (path == "-" || !std::filesystem::is_regular_file(path, none)) return {};
  std::ifstream there(path, std::ios::binary);
  char first = 0;
  if (!(there >> first) || first == '{' || first == '[') return {};
  return fmt::format("{}: exists and is no JSON report: it is not replaced", path);
}

}  // namespace

void add_common_options(CLI::App& app, CommonOptions& options) {
  app.add_option("DUMP", options.dump, "the dump: ELF core, Windows crash dump, raw memory ...")->required();
  app.add_option("--symbols", options.target.symbol_paths,
                 "symbol files (PDB, ISF JSON) or directories of them; may be given several times")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--image-path", options.target.image_paths,
                 "folders of Windows' own files (DIR[;DIR]), for pages of images that the dump does not have")
      ->delimiter(';')
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--force-symbols", options.target.force_symbols,
               "use a symbol file although its GUID is another kernel's");
  app.add_option("--spool", options.target.dump.spool.folder,
                 "folder where compressed dumps are unpacked; else $TMPDIR or /var/tmp");
  app.add_flag("--no-cache", options.no_cache, "neither read nor write the cache of imported symbols");
  app.add_option("--json", options.json,
                 "write JSON to standard output, or to FILE: a name that ends with .json, or --json=FILE")
      ->type_name("[FILE]")
      ->check(CLI::Validator(not_to_be_replaced, ""));
}

std::optional<dump::DumpFile> open_dump(const CommonOptions& options, int& status) {
  status = kUserError;
  for (const std::string& path : options.target.symbol_paths)
    if (access(path.c_str(), R_OK) != 0) {
      complain(fmt::format("{}: no such symbol file or directory, or not readable", path));
      return std::nullopt;
    }
  for (const std::string& path : options.target.image_paths)
    if (access(path.c_str(), R_OK | X_OK) != 0) {
      complain(fmt::format("{}: no such folder of image files, or not readable", path));
      return std::nullopt;
    }
  dump::OpenOptions how = options.target.dump;
  how.progress = progress_line();
  auto dump = dump::open_dump(options.dump, how);
  if (!dump) {
    complain(fmt::format("{}: {}", options.dump, text(dump.error())));
    return std::nullopt;
  }
  status = kDone;
  return std::move(*dump);
}

std::unique_ptr<Session> open_session(const CommonOptions& options, int& status) {
  auto dump = open_dump(options, status);
  return dump ? open_session(std::move(*dump), options, status) : nullptr;
}

std::unique_ptr<Session> open_session(dump::DumpFile dump, const CommonOptions& options, int& status) {
  nt::TargetOptions target = options.target;
  target.cache = options.no_cache ? "" : symbols::Store::default_cache();
  auto opened = nt::Target::open(std::move(dump), target);
  if (!opened) {
    complain(fmt::format("{}: {}", options.dump, text(opened.error())));
    status = kUserError;
    return nullptr;
  }
  // A file that the user named and that is no symbol file is a mistake; one found in a directory is a gap.
  for (const Gap& g : (*opened)->gaps())
    if (g.what == "symbol file" &&
        std::find(options.target.symbol_paths.begin(), options.target.symbol_paths.end(), g.where) !=
            options.target.symbol_paths.end()) {
      complain(fmt::format("{}: {}", g.where, g.why));
      status = kUserError;
      return nullptr;
    }
  return std::make_unique<Session>(std::move(*opened));
}

namespace {

// A report that is cut by a full disk must not pass for one.
int to_standard_output(const std::string& text) {
  const bool all = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (std::fflush(stdout) == 0 && all) return kDone;
  complain(fmt::format("standard output: cannot write: {}", std::strerror(errno)));
  return kMachineError;
}

}  // namespace

int output(const Node& node, const CommonOptions& options) {
  if (!options.json.empty()) {
    const std::string json = report::to_json(node);
    if (options.json == "-") {
      return to_standard_output(json);
    }
    // Again: it may be the dump that was just taken.
    if (const std::string why = not_to_be_replaced(options.json); !why.empty()) {
      complain(why);
      return kUserError;
    }
    std::ofstream file(options.json, std::ios::binary);
    file << json;
    if (!file.flush()) {
      complain(fmt::format("{}: cannot write", options.json));
      return kMachineError;
    }
    return kDone;
  }
  report::Text text(isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr);
  text.print(node);
  return to_standard_output(text.str());
}

}  // namespace unhang::app
