// The subcommands of `unhang symbols` that are more than a page.
#pragma once

#include <string>
#include <vector>

#include "app/command.h"

namespace unhang::app {

struct SymbolsOptions {
  CommonOptions common;
  std::vector<std::string> files;
  bool all = false;      // every module of the kernel
  bool user = false;     // modules of processes too
  bool dry_run = false;  // say what would be asked
  bool members = false;  // of check: by name
  std::string path;      // symbol path; empty: $_NT_SYMBOL_PATH, else Microsoft's server
  std::string out;       // of pack
};

// Each returns an Exit.
int symbols_list(const SymbolsOptions& options);
int symbols_fetch(const SymbolsOptions& options);
int symbols_import(const SymbolsOptions& options);
int symbols_pack(const SymbolsOptions& options);
int symbols_check(const SymbolsOptions& options);

// The folder of layouts; complains and returns nothing when there is none.
std::string symbols_cache();

}  // namespace unhang::app
