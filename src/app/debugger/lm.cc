// lm [m pattern]: loaded modules.
#include "app/command.h"
#include "app/table.h"
#include "app/views/view.h"
#include "app/wildcard.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  std::string pattern = "*";
  for (const std::string& a : args)
    if (a != "m" && a != "v" && a != "vm" && a != "k" && a != "u") pattern = a;
  for (const auto& m : session.target().modules().all()) session.target().module_at(m->base());
  Node n = table_node({{"base", "start"},
                       {"end", "end"},
                       {"name", "module name"},
                       {"symbols", "symbols"},
                       {"pdb_key", "pdb"},
                       {"file", "file"}});
  const Node modules = modules_node(session.target());
  for (const Node& m : modules.items()) {
    if (!wildcard_match(pattern, m.get("name").as_text())) continue;
    Node row = m;
    row["end"] = m.get("base").as_address() + m.get("size").as_u64();
    row["symbols"] = m.get("symbols").is_null() ? Node("(deferred)") : m.get("symbols");
    if (const Node* pdb = m.find("pdb"))
      row["pdb_key"] =
          std::string(pdb->get("name").as_text()) + " " + std::string(pdb->get("guid").as_text());
    n["rows"].add(std::move(row));
  }
  return n;
}

}  // namespace

extern const DebuggerCommand lm_debugger_command;
const DebuggerCommand lm_debugger_command{
    .names = {"lm"}, .usage = "lm [m PATTERN]", .help = "loaded kernel modules", .run = run};

}  // namespace unhang::app
