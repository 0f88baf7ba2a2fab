// Where symbols come from: files that the user names, the cache of imported layouts, then directories.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "image/pdb_id.h"
#include "symbols/layout.h"

namespace unhang::symbols {

struct Found {
  std::shared_ptr<const Layout> layout;
  std::string where;  // the file it was imported from, or the cache file
};

class Store {
 public:
  // paths: symbol files (PDB, ISF) and directories. A directory may hold symbol files under any name with
  // the GUID in it, under the PDB's name, or in the form of a symbol server: name.pdb/GUIDAGE/name.pdb.
  // cache: directory of layouts; empty turns caching off.
  Store(std::vector<std::string> paths, std::string cache);

  // $XDG_CACHE_HOME/unhang/layouts or ~/.cache/unhang/layouts; empty when there is no home.
  static std::string default_cache();

  // Symbols of exactly this GUID and age. nullopt: nobody has them.
  std::optional<Found> find(const image::PdbId& id);
  // The first layout of a PDB of that name that a test accepts, for dumps whose GUID is not readable.
  std::optional<Found> find_if(const std::string& name, const std::function<bool(const Layout&)>& accept);
  // A file that the user named for this PDB but that has another GUID: wrong symbols, worth an error.
  std::optional<std::pair<std::string, image::PdbId>> mismatch(const image::PdbId& id);
  // The layout of a symbol file whatever its GUID, for --force-symbols and for imports.
  Result<Found> import(const std::string& path);
  // Puts a layout into the cache. Errors: io.
  Result<std::string> keep(const Layout& layout, const std::vector<u8>& bytes);

  // Files that were tried and could not be used, with the reason: for `info` and `symbols list`.
  const std::vector<Gap>& complaints() const { return complaints_; }

 private:
  std::string cache_file(const image::PdbId& id) const;
  std::vector<std::string> candidates(const std::string& directory, const image::PdbId& id) const;
  std::optional<Found> cached(const image::PdbId& id) const;
  std::optional<Found> try_file(const std::string& path, const image::PdbId& id);

  std::vector<std::string> paths_;
  std::string cache_;
  std::map<std::string, Found> imported_;  // by path
  std::vector<Gap> complaints_;
};

}  // namespace unhang::symbols
