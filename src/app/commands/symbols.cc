// unhang symbols: what a dump needs and where it can be had, getting and importing files, carrying layouts to
// another machine, and what the layouts do not know.
#include <CLI/CLI.hpp>
#include <memory>

#include "app/command.h"
#include "app/symbols/subcommands.h"

namespace unhang::app {

namespace {

void add_json(CLI::App& app, SymbolsOptions& o) {
  app.add_option("--json", o.common.json, "write JSON to FILE, or to standard output with '-'")
      ->type_name("[FILE]");
}

void set_up(CLI::App& app, int& status) {
  app.require_subcommand(1);
  auto o = std::make_shared<SymbolsOptions>();
  CLI::App* l =
      app.add_subcommand("list", "what this dump needs: PDB names, GUIDs, where each can be fetched");
  add_common_options(*l, o->common);
  l->add_flag("--user", o->user, "every module of every process, not only those on stacks");
  l->callback([o, &status] { status = symbols_list(*o); });

  CLI::App* f = app.add_subcommand(
      "fetch", "get PDBs from a symbol server: of the kernel and of the modules on kernel stacks");
  add_common_options(*f, o->common);
  f->add_flag("--all", o->all, "every module of the kernel (with --user: of every process too)");
  f->add_flag("--user", o->user, "modules of processes that are on stacks, too");
  f->add_option("--symbol-path", o->path,
                "where to ask, as debuggers write it: srv*FOLDER*URL;... (else $_NT_SYMBOL_PATH, else "
                "Microsoft's server)");
  f->add_flag("--dry-run", o->dry_run, "only say what would be asked for; the network is not used");
  f->callback([o, &status] { status = symbols_fetch(*o); });

  CLI::App* i = app.add_subcommand("import", "put PDB or ISF files, or what pack wrote, into the cache");
  i->alias("unpack");
  i->add_option("FILE", o->files, "PDB, ISF JSON, layouts.tar")->required();
  add_json(*i, *o);
  i->callback([o, &status] { status = symbols_import(*o); });

  CLI::App* p = app.add_subcommand("pack", "a tar file of the cache, for a machine without a network");
  p->add_option("-o,--output", o->out, "the tar file")->required();
  p->add_option("DUMP", o->files, "only what these dumps need; else everything");
  p->add_option("--symbols", o->common.target.symbol_paths, "symbol files or directories for these dumps")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  p->add_flag("--user", o->user, "with dumps: every module of every process, not only those on stacks");
  add_json(*p, *o);
  p->callback([o, &status] { status = symbols_pack(*o); });

  CLI::App* c = app.add_subcommand(
      "check", "which members symbol tables do not have: of these files, else of all layouts at hand");
  c->add_option("FILE", o->files, "PDB or ISF JSON of a kernel");
  c->add_flag("--members", o->members, "name the members; with FILE they are always named");
  add_json(*c, *o);
  c->callback([o, &status] { status = symbols_check(*o); });
}

}  // namespace

extern const Command symbols_command;
const Command symbols_command{.name = "symbols",
                              .help = "symbols: what a dump needs, fetching, importing, packing",
                              .order = 7,
                              .set_up = set_up};

}  // namespace unhang::app
