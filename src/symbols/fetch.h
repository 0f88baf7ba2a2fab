// Fetching PDBs as symbol servers keep them: name/GUID and age/name, packed as name with '_' at its end, or
// a file.ptr that says where the file lies. Source: Microsoft, "SymStore", "Symbol store folder tree",
// "Advanced SymSrv use".
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "symbols/http.h"
#include "symbols/store.h"
#include "symbols/symbol_path.h"

namespace unhang::symbols {

struct Fetched {
  bool ok = false;
  std::string from;                   // URL or file
  std::vector<std::string> kept_in;   // folders of the symbol path that got it
  u64 bytes = 0;                      // fetched over the network
  std::vector<std::string> problems;  // one sentence each: places that could not be asked or sent nonsense
  std::vector<std::string> asked;     // places that do not have it
};

class Fetcher {
 public:
  // What is fetched goes into the store's cache of layouts, and as a PDB into the folders that the path puts
  // before the place where it was found.
  Fetcher(SymbolPath path, HttpOptions http, Store& store);

  // Asks the elements of the path in their order. What came is believed when it is a PDB of this GUID and
  // age.
  Fetched fetch(const image::PdbId& id, const Progress& progress);
  // The addresses that fetch() would ask first.
  std::vector<std::string> urls(const image::PdbId& id) const;

  // A name that can be part of a path and of an address: it comes from a dump.
  static bool usable(const std::string& name);

 private:
  struct Work;
  // Each is true when the file is there and good.
  bool from_store(Work& work, const PathElement& element, size_t store);
  bool from_folder(Work& work, const std::string& folder, bool plain);
  bool from_server(Work& work, const std::string& server);
  bool follow(Work& work, const std::string& pointer, const std::string& where, bool server);
  // unreachable: gets the reason when there is no connection.
  bool download(Work& work, const std::string& url, std::string* unreachable = nullptr);
  bool take(Work& work, const std::string& file, const std::string& where);
  void keep(Work& work, const PathElement& element, size_t store);

  SymbolPath path_;
  Store& store_;
  u64 most_;
  Http http_;
  std::map<std::string, std::string> down_;  // servers that could not be reached: not asked again, and why
};

}  // namespace unhang::symbols
