// symbols list: what a dump needs and where it can be had.
#include "app/symbols/need.h"
#include "app/symbols/subcommands.h"
#include "app/table.h"
#include "app/views/view.h"
#include "base/format.h"
#include "symbols/fetch.h"

namespace unhang::app {

int symbols_list(const SymbolsOptions& o) {
  int status = kDone;
  const auto session = open_session(o.common, status);
  if (!session) return status;
  const symbols::SymbolPath microsoft = symbols::parse_symbol_path(symbols::kMicrosoftServer, "");
  symbols::Store none({}, "");
  const symbols::Fetcher server(microsoft, {}, none);
  Node n = table_node({{"module", "module"},
                       {"threads", "on stacks"},
                       {"pdb_key", "pdb, GUID and age"},
                       {"symbols", "found"},
                       {"url", "where to fetch it"}});
  u64 missing = 0, unknown = 0;
  for (const NeededModule& needed :
       needed_modules(*session, {.user_on_stacks = true, .whole_user = o.user})) {
    const nt::Module& m = *needed.module;
    Node row = Node::map();
    row["module"] = m.name();
    row["base"] = m.base();
    row["mode"] = needed.user ? "user" : "kernel";
    row["threads"] = needed.threads;
    row["processes"] = needed.processes;
    row["pdb"] = m.pdb() ? Node(m.pdb()->name) : Node();
    row["guid"] = m.pdb() ? Node(m.pdb()->guid_text()) : Node();
    row["age"] = m.pdb() ? Node(m.pdb()->age) : Node();
    row["pdb_key"] = m.pdb() ? Node(fmt::format("{} {}", m.pdb()->name, m.pdb()->key())) : Node();
    row["symbols"] = m.symbols() != nullptr ? Node(m.symbols_from()) : Node();
    const bool wanted = m.pdb() && m.symbols() == nullptr;
    const auto urls = wanted ? server.urls(*m.pdb()) : std::vector<std::string>();
    row["url"] = urls.empty() ? Node() : Node(urls.front());
    missing += wanted ? 1 : 0;
    unknown += m.pdb() ? 0 : 1;
    n["rows"].add(std::move(row));
  }
  n["missing"] = missing;
  n["note"] = fmt::format(
      "{} without symbols; {} without a readable CodeView record. With a network: unhang symbols fetch DUMP. "
      "Without one: fetch files on another machine, then unhang symbols import FILE...",
      counted(missing, "module", "modules"), unknown);
  return output(n, o.common);
}

}  // namespace unhang::app
