// symbols pack, symbols import: layouts for a machine without a network, and files into the cache.
#include <algorithm>
#include <filesystem>

#include "app/lines.h"
#include "app/symbols/need.h"
#include "app/symbols/subcommands.h"
#include "app/table.h"
#include "app/views/view.h"
#include "base/format.h"
#include "symbols/archive.h"

namespace unhang::app {

namespace fs = std::filesystem;

namespace {

std::vector<std::string> all_layouts(const std::string& cache) {
  std::vector<std::string> files;
  std::error_code e;
  for (fs::directory_iterator it(cache, e), end; !e && it != end; it.increment(e))
    if (it->path().extension() == ".layout") files.push_back(it->path().string());
  std::sort(files.begin(), files.end());
  return files;
}

// The cache's layouts that a dump needs. Opening it has imported whatever --symbols named.
bool layouts_of(const SymbolsOptions& o, const std::string& dump, const std::string& cache,
                std::vector<std::string>& files, int& status) {
  CommonOptions common = o.common;
  common.dump = dump;
  const auto session = open_session(common, status);
  if (!session) return false;
  for (const NeededModule& needed :
       needed_modules(*session, {.user_on_stacks = true, .whole_user = o.user})) {
    if (!needed.module->pdb()) continue;
    const std::string file = fmt::format("{}/{}.layout", cache, needed.module->pdb()->key());
    std::error_code e;
    if (fs::exists(file, e)) files.push_back(file);
  }
  return true;
}

void add_gaps(Node& n, const std::vector<Gap>& gaps) {
  n["left_out"] = Node::list();
  for (const Gap& g : gaps) {
    Node gap = Node::map();
    gap["file"] = g.where;
    gap["why"] = g.why;
    n["left_out"].add(std::move(gap));
    complain(fmt::format("{}: {}: left out", g.where, g.why));
  }
}

}  // namespace

std::string symbols_cache() {
  const std::string cache = symbols::Store::default_cache();
  if (cache.empty()) complain("there is no folder for the cache: neither XDG_CACHE_HOME nor HOME is set");
  return cache;
}

int symbols_pack(const SymbolsOptions& o) {
  const std::string cache = symbols_cache();
  if (cache.empty()) return kUserError;
  std::vector<std::string> files;
  if (o.files.empty()) files = all_layouts(cache);
  int status = kDone;
  for (const std::string& dump : o.files)
    if (!layouts_of(o, dump, cache, files, status)) return status;
  if (files.empty()) {
    complain(o.files.empty()
                 ? fmt::format("{}: there are no layouts in the cache", cache)
                 : fmt::format("{}: the cache has none of the layouts that the dump needs", cache));
    return kUserError;
  }
  std::vector<Gap> left_out;
  const auto packed = symbols::pack_layouts(files, o.out, left_out);
  if (!packed) {
    complain(fmt::format("{}: {}", o.out, text(packed.error())));
    return kMachineError;
  }
  Node n = lines_node();
  n["note"] = fmt::format("{}: {}, {:.1f} MiB", o.out, counted(*packed, "layout", "layouts"),
                          double(fs::file_size(o.out)) / 1048576);
  n["output"] = o.out;
  n["layouts"] = *packed;
  n["file_size"] = u64{fs::file_size(o.out)};
  add_gaps(n, left_out);
  return output(n, o.common);
}

int symbols_import(const SymbolsOptions& o) {
  const std::string cache = symbols_cache();
  if (cache.empty()) return kUserError;
  symbols::Store store({}, cache);
  Node n = table_node({{"file", "file"}, {"pdb", "pdb"}, {"key", "GUID and age"}, {"types", "types"}});
  std::vector<Gap> left_out;
  int status = kDone;
  auto add = [&](const std::string& file, const image::PdbId& id, const char* types) {
    Node row = Node::map();
    row["file"] = file;
    row["pdb"] = id.name;
    row["key"] = id.key();
    row["types"] = types;
    n["rows"].add(std::move(row));
  };
  auto refuse = [&](const std::string& file, const Error& error) {
    complain(fmt::format("{}: {}", file, text(error)));
    status = error.why == Why::io && error.os_error == 0 ? kMachineError : kUserError;
  };
  for (const std::string& file : o.files) {
    const auto opened = File::open(file);
    if (opened && symbols::is_archive((*opened)->bytes())) {
      const auto unpacked = symbols::unpack_layouts((*opened)->bytes(), store);
      if (!unpacked) {
        refuse(file, unpacked.error());
        continue;
      }
      for (const image::PdbId& id : unpacked->layouts) add(file, id, "layout");
      left_out.insert(left_out.end(), unpacked->left_out.begin(), unpacked->left_out.end());
      continue;
    }
    const auto found = store.import(file);
    if (!found) {
      refuse(file, found.error());
      continue;
    }
    add(file, found->layout->pdb(), found->layout->find_type("_EPROCESS") ? "kernel" : "module");
  }
  n["note"] = fmt::format("kept in {}", cache);
  add_gaps(n, left_out);
  if (n.get("rows").empty()) return status != kDone ? status : kUserError;
  const int printed = output(n, o.common);
  return printed != kDone ? printed : status;
}

}  // namespace unhang::app
