// symbols fetch: the one command that uses the network.
#include "symbols/fetch.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "app/interrupt.h"
#include "app/progress_line.h"
#include "app/symbols/need.h"
#include "app/symbols/subcommands.h"
#include "app/table.h"
#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& p : parts) out += (out.empty() ? "" : ", ") + p;
  return out;
}

struct Counts {
  u64 fetched = 0, had = 0, failed = 0, unknown = 0, wanted = 0;
};

class Fetching {
 public:
  Fetching(const SymbolsOptions& options, symbols::Fetcher& fetcher)
      : options_(options), fetcher_(fetcher), progress_(progress_line()) {}

  Node row(const NeededModule& needed) {
    const nt::Module& m = *needed.module;
    Node row = Node::map();
    row["module"] = m.name();
    row["base"] = m.base();
    row["mode"] = needed.user ? "user" : "kernel";
    row["pdb_key"] = m.pdb() ? Node(fmt::format("{} {}", m.pdb()->name, m.pdb()->key())) : Node();
    row["result"] = "";
    row["from"] = Node();
    row["kept_in"] = Node::list();
    row["problems"] = Node::list();
    if (!m.pdb()) {
      counts.unknown++;
      row["result"] = "its GUID cannot be read";
    } else if (m.symbols() != nullptr) {
      counts.had++;
      row["result"] = "already there";
      row["from"] = m.symbols_from();
    } else if (options_.dry_run) {
      counts.wanted++;
      row["result"] = "would be asked for";
      row["from"] = joined(fetcher_.urls(*m.pdb()));
    } else {
      fetch(*m.pdb(), row);
    }
    return row;
  }

  Counts counts;

 private:
  void fetch(const image::PdbId& id, Node& row) {
    const Progress progress = [&](const ProgressStep& step) {
      ProgressStep named = step;
      named.what = id.name;
      return Interrupt::signal() == 0 && (!progress_ || progress_(named));
    };
    const symbols::Fetched f = fetcher_.fetch(id, progress);
    (f.ok ? counts.fetched : counts.failed)++;
    row["bytes"] = f.bytes;
    for (const std::string& folder : f.kept_in) row["kept_in"].add(folder);
    for (const std::string& p : f.problems) row["problems"].add(p);
    if (f.ok) {
      row["result"] = f.bytes != 0 ? fmt::format("fetched, {:.1f} MiB", double(f.bytes) / 1048576) : "found";
      row["from"] = f.from;
    } else {
      // What went wrong says more than who does not have it.
      row["result"] = f.problems.empty() ? "not there" : "failed";
      complain(fmt::format("{}: {}", id.name,
                           !f.problems.empty() ? f.problems.back()
                           : f.asked.empty()   ? std::string("nowhere to ask")
                                               : fmt::format("{} does not have it", joined(f.asked))));
    }
  }

  const SymbolsOptions& options_;
  symbols::Fetcher& fetcher_;
  Progress progress_;
};

}  // namespace

int symbols_fetch(const SymbolsOptions& o) {
  const std::string cache = symbols_cache();
  if (cache.empty()) return kUserError;
  std::string text = o.path.empty() ? environment("_NT_SYMBOL_PATH") : o.path;
  if (text.empty()) text = symbols::kMicrosoftServer;
  // What other programs of this kind call the default downstream store.
  const std::string folder = std::filesystem::path(cache).parent_path().string() + "/symbols";
  symbols::SymbolPath path = symbols::parse_symbol_path(text, folder);
  if (path.elements.empty()) {
    complain(path.problems.empty() ? fmt::format("the symbol path '{}' names no place", text)
                                   : path.problems.front());
    return kUserError;
  }
  const std::vector<std::string> path_problems = path.problems;
  int status = kDone;
  const auto session = open_session(o.common, status);
  if (!session) return status;
  symbols::Store store({}, cache);
  symbols::HttpOptions http{.proxy = environment("_NT_SYMBOL_PROXY")};
  symbols::Fetcher fetcher(std::move(path), std::move(http), store);
  Fetching fetching(o, fetcher);
  Node n = table_node(
      {{"module", "module"}, {"pdb_key", "pdb, GUID and age"}, {"result", "result"}, {"from", "from"}});
  n["path"] = text;
  n["path_problems"] = Node::list();
  for (const std::string& p : path_problems) {
    complain(p);
    n["path_problems"].add(p);
  }
  const auto needed = needed_modules(
      *session, {.whole_kernel = o.all, .user_on_stacks = o.user, .whole_user = o.user && o.all});
  {
    // So that no half of a file stays behind.
    const Interrupt guard;
    for (const NeededModule& module : needed) {
      n["rows"].add(fetching.row(module));
      if (Interrupt::signal() == 0) continue;
      complain(fmt::format("ended by a signal ({})", strsignal(Interrupt::signal())));
      return kMachineError;
    }
  }
  const Counts& c = fetching.counts;
  n["fetched"] = c.fetched;
  n["failed"] = c.failed;
  n["already_there"] = c.had;
  n["unknown"] = c.unknown;
  n["note"] = o.dry_run ? fmt::format("{} to ask for, {} already there, {} without a readable GUID", c.wanted,
                                      c.had, c.unknown)
                        : fmt::format(
                              "{} fetched, {} failed, {} already there, {} without a readable GUID; "
                              "kept in {}",
                              c.fetched, c.failed, c.had, c.unknown, cache);
  const int printed = output(n, o.common);
  if (printed != kDone) return printed;
  // Some may be private: one that came is a success.
  if (c.failed == 0 || c.fetched != 0) return kDone;
  complain(fmt::format("none of {} could be fetched", counted(c.failed, "module", "modules")));
  return kUserError;
}

}  // namespace unhang::app
