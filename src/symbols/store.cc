#include "symbols/store.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/ascii.h"
#include "symbols/importer.h"

namespace unhang::symbols {

namespace fs = std::filesystem;

namespace {

bool is_symbol_file(const std::string& name) {
  const std::string n = lower(name);
  return n.ends_with(".pdb") || n.ends_with(".json") || n.ends_with(".json.xz") || n.ends_with(".layout");
}

bool is_directory(const std::string& path) {
  std::error_code e;
  return fs::is_directory(path, e);
}

// Whether symbols are some build of that PDB. The name is not in the file: a kernel's PDB that was renamed is
// known by a symbol that every kernel has and no driver.
bool is_of(const Layout& layout, const std::string& name) {
  if (lower(layout.pdb().name) == lower(name)) return true;
  return lower(name).find("krnl") != std::string::npos &&
         layout.find_symbol("PsLoadedModuleList").has_value();
}

}  // namespace

Store::Store(std::vector<std::string> paths, std::string cache)
    : paths_(std::move(paths)), cache_(std::move(cache)) {}

std::string Store::default_cache() {
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg == '/')
    return std::string(xdg) + "/unhang/layouts";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return std::string(home) + "/.cache/unhang/layouts";
  return {};
}

std::string Store::cache_file(const image::PdbId& id) const {
  return cache_.empty() ? std::string() : cache_ + "/" + id.key() + ".layout";
}

Result<std::string> Store::keep(const Layout& layout, const std::vector<u8>& bytes) {
  const std::string path = cache_file(layout.pdb());
  std::error_code e;
  fs::create_directories(cache_, e);
  // Written beside and renamed: another run never sees half a file.
  const std::string temporary = path + "." + std::to_string(getpid());
  {
    std::ofstream out(temporary, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) {
      fs::remove(temporary, e);
      return fail(Error{.why = Why::io, .detail = "cannot write to the symbol cache"});
    }
  }
  fs::rename(temporary, path, e);
  if (e) return fail(Error{.why = Why::io, .detail = "cannot write to the symbol cache"});
  return path;
}

Result<Found> Store::import(const std::string& path) {
  if (const auto it = imported_.find(path); it != imported_.end()) return it->second;
  const auto file = TRY(File::open(path));
  if (lower(path).ends_with(".layout"))
    return imported_.emplace(path, Found{TRY(Layout::open(file)), path}).first->second;
  const std::vector<u8> bytes = TRY(import_symbols(file));
  const Found found{TRY(Layout::from_bytes(bytes, path)), path};
  // A cache that cannot be written costs time, not the answer.
  if (!cache_.empty()) (void)keep(*found.layout, bytes);
  return imported_.emplace(path, found).first->second;
}

std::optional<Found> Store::try_file(const std::string& path, const image::PdbId& id) {
  const auto found = import(path);
  if (!found) {
    complaints_.push_back({"symbol file", path, text(found.error())});
    return std::nullopt;
  }
  if (!found->layout->pdb().same(id)) return std::nullopt;
  return *found;
}

// Files of a directory that may hold these symbols, the surest first.
std::vector<std::string> Store::candidates(const std::string& directory, const image::PdbId& id) const {
  std::vector<std::string> sure, maybe;
  const std::string by_server = directory + "/" + id.name + "/" + id.key() + "/" + id.name;
  std::error_code e;
  if (fs::exists(by_server, e)) sure.push_back(by_server);
  const std::string guid = lower(id.guid_text()), name = lower(id.name);
  const std::string stem = name.substr(0, name.find_last_of('.'));
  constexpr size_t kMostFiles = 4096;
  size_t seen = 0;
  for (fs::directory_iterator it(directory, e), end; !e && it != end && seen < kMostFiles;
       it.increment(e), seen++) {
    const std::string file = it->path().filename().string(), low = lower(file);
    if (low == name && fs::is_directory(it->path(), e)) {
      // Volatility's form: ntkrnlmp.pdb/GUID-AGE.json.xz.
      for (const auto& inner : fs::directory_iterator(it->path(), e))
        if (is_symbol_file(inner.path().filename().string()) &&
            lower(inner.path().filename().string()).find(guid) != std::string::npos)
          sure.push_back(inner.path().string());
      continue;
    }
    if (!is_symbol_file(file)) continue;
    if (low.find(guid) != std::string::npos)
      sure.push_back(it->path().string());
    else if (low == name || low == stem + ".json" || low == stem + ".json.xz")
      maybe.push_back(it->path().string());
  }
  sure.insert(sure.end(), maybe.begin(), maybe.end());
  return sure;
}

std::optional<Found> Store::cached(const image::PdbId& id) const {
  const std::string path = cache_file(id);
  std::error_code e;
  if (path.empty() || !fs::exists(path, e)) return std::nullopt;
  const auto file = File::open(path);
  if (!file) return std::nullopt;
  const auto layout = Layout::open(*file);
  // A cache file of an older version of ours, or a damaged one, is as good as none.
  if (!layout || !(*layout)->pdb().same(id)) return std::nullopt;
  return Found{*layout, path};
}

// Files that the user named come first, so that a wrong one is noticed; a directory may hold anything, and
// what was imported from it before is in the cache.
std::optional<Found> Store::find(const image::PdbId& id) {
  for (const std::string& path : paths_)
    if (!is_directory(path))
      if (auto found = try_file(path, id)) return found;
  if (auto found = cached(id)) return found;
  for (const std::string& path : paths_)
    if (is_directory(path))
      for (const std::string& file : candidates(path, id))
        if (auto found = try_file(file, id)) return found;
  return std::nullopt;
}

std::optional<Found> Store::find_if(const std::string& name,
                                    const std::function<bool(const Layout&)>& accept) {
  constexpr size_t kMostFiles = 256;  // each may take a second to import
  std::vector<std::string> files;
  const std::string stem = lower(name.substr(0, name.find_last_of('.')));
  std::vector<std::string> paths = paths_;
  if (!cache_.empty()) paths.insert(paths.begin(), cache_);
  for (const std::string& path : paths) {
    std::error_code e;
    if (!is_directory(path)) {
      files.push_back(path);
      continue;
    }
    for (fs::recursive_directory_iterator it(path, e), end; !e && it != end && files.size() < kMostFiles;
         it.increment(e)) {
      const std::string file = lower(it->path().filename().string());
      if (is_symbol_file(file) &&
          (path == cache_ || lower(it->path().string()).find(stem) != std::string::npos))
        files.push_back(it->path().string());
    }
  }
  for (const std::string& file : files) {
    const auto found = import(file);
    if (found && is_of(*found->layout, name) && accept(*found->layout)) return *found;
  }
  return std::nullopt;
}

std::optional<std::pair<std::string, image::PdbId>> Store::mismatch(const image::PdbId& id) {
  for (const std::string& path : paths_) {
    if (is_directory(path)) continue;
    const auto found = import(path);
    if (found && is_of(*found->layout, id.name) && !found->layout->pdb().same(id))
      return std::pair(path, found->layout->pdb());
  }
  return std::nullopt;
}

}  // namespace unhang::symbols
