// unhang symbols: what a dump needs and where it can be had, importing files, and what the layouts do not
// know.
#include <CLI/CLI.hpp>
#include <memory>

#include "app/command.h"
#include "app/table.h"
#include "app/views/view.h"
#include "base/format.h"
#include "nt/member.h"
#include "symbols/builtin.h"
#include "symbols/store.h"

namespace unhang::app {

namespace {

constexpr const char* kServer = "https://msdl.microsoft.com/download/symbols";

struct Options {
  CommonOptions common;
  std::vector<std::string> files;
};

// The path of a PDB on every symbol server: name/GUID and age/name.
std::string url(const image::PdbId& id) {
  return fmt::format("{}/{}/{}/{}", kServer, id.name, id.key(), id.name);
}

int list(const Options& o) {
  int status = kDone;
  const auto session = open_session(o.common, status);
  if (!session) return status;
  const nt::Target& t = session->target();
  Node n = table_node({{"module", "module"},
                       {"pdb_key", "pdb, GUID and age"},
                       {"symbols", "found"},
                       {"url", "where to fetch it"}});
  u64 missing = 0, unknown = 0;
  for (const auto& listed : t.modules().all()) {
    const nt::Module* m = t.module_at(listed->base());
    Node row = Node::map();
    row["module"] = m->name();
    row["base"] = m->base();
    row["pdb"] = m->pdb() ? Node(m->pdb()->name) : Node();
    row["guid"] = m->pdb() ? Node(m->pdb()->guid_text()) : Node();
    row["age"] = m->pdb() ? Node(m->pdb()->age) : Node();
    row["pdb_key"] = m->pdb() ? Node(fmt::format("{} {}", m->pdb()->name, m->pdb()->key())) : Node();
    row["symbols"] = m->symbols() != nullptr ? Node(m->symbols_from()) : Node();
    const bool wanted = m->pdb() && m->symbols() == nullptr;
    row["url"] = wanted ? Node(url(*m->pdb())) : Node();
    missing += wanted ? 1 : 0;
    unknown += m->pdb() ? 0 : 1;
    n["rows"].add(std::move(row));
  }
  n["missing"] = missing;
  n["note"] = fmt::format(
      "{} without symbols; {} without a readable CodeView record. Fetch files on another machine, "
      "then: unhang symbols import FILE...",
      counted(missing, "module", "modules"), unknown);
  return output(n, o.common);
}

int import(const Options& o) {
  const std::string cache = symbols::Store::default_cache();
  if (cache.empty()) {
    complain("there is no folder for the cache: neither XDG_CACHE_HOME nor HOME is set");
    return kUserError;
  }
  symbols::Store store({}, cache);
  Node n = table_node({{"file", "file"}, {"pdb", "pdb"}, {"key", "GUID and age"}, {"types", "types"}});
  int status = kDone;
  for (const std::string& file : o.files) {
    const auto found = store.import(file);
    if (!found) {
      complain(fmt::format("{}: {}", file, text(found.error())));
      status = kUserError;
      continue;
    }
    Node row = Node::map();
    row["file"] = file;
    row["pdb"] = found->layout->pdb().name;
    row["key"] = found->layout->pdb().key();
    row["types"] = found->layout->find_type("_EPROCESS") ? "kernel" : "module";
    n["rows"].add(std::move(row));
  }
  n["note"] = fmt::format("kept in {}", cache);
  if (n.get("rows").empty()) return status;
  const int printed = output(n, o.common);
  return printed != kDone ? printed : status;
}

// Members that a layout does not have. Structures change: a member that came or went with a build is expected
// to be missing in others, and whatever needs it says so.
int check(const Options& o) {
  Node n = table_node({{"layout", "layout"},
                       {"resolved", "resolved"},
                       {"missing", "missing"},
                       {"names", "members that it does not have"}});
  for (const std::string& build : symbols::builtin_builds()) {
    const auto layout = symbols::builtin_layout(build);
    u64 resolved = 0;
    std::string names;
    u64 missing = 0;
    for (const nt::MemberLine* line : nt::MemberLine::all()) {
      bool found = layout->field(line->type(), line->path()).has_value();
      for (const char* older : line->older())
        found = found || (older != nullptr && layout->field(line->type(), older).has_value());
      if (found) {
        resolved++;
        continue;
      }
      missing++;
      names += fmt::format("{}{}.{}", names.empty() ? "" : " ", line->type(), line->path());
    }
    Node row = Node::map();
    row["layout"] = build;
    row["resolved"] = resolved;
    row["missing"] = missing;
    row["names"] = names;
    n["rows"].add(std::move(row));
  }
  return output(n, o.common);
}

void set_up(CLI::App& app, int& status) {
  app.require_subcommand(1);
  auto o = std::make_shared<Options>();
  CLI::App* l =
      app.add_subcommand("list", "what this dump needs: PDB names, GUIDs, where each can be fetched");
  add_common_options(*l, o->common);
  l->callback([o, &status] { status = list(*o); });
  CLI::App* i = app.add_subcommand("import", "put PDB or ISF files into the cache");
  i->add_option("FILE", o->files, "PDB, ISF JSON")->required();
  i->add_option("--json", o->common.json, "write JSON to FILE, or to standard output with '-'")
      ->type_name("[FILE]");
  i->callback([o, &status] { status = import(*o); });
  CLI::App* c = app.add_subcommand("check", "which members the built-in layouts do not have");
  c->add_option("--json", o->common.json, "write JSON to FILE, or to standard output with '-'")
      ->type_name("[FILE]");
  c->callback([o, &status] { status = check(*o); });
}

}  // namespace

extern const Command symbols_command;
const Command symbols_command{
    .name = "symbols", .help = "what symbols a dump needs, importing them", .order = 7, .set_up = set_up};

}  // namespace unhang::app
