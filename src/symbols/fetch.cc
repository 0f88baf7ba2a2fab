#include "symbols/fetch.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/format.h"
#include "symbols/cabinet.h"
#include "symbols/importer.h"

namespace unhang::symbols {

namespace fs = std::filesystem;

namespace {

constexpr u64 kMostPointer = 4096;  // bytes of a file.ptr

// A folder of our own, where the file is made before it gets its name. Beside the place where it will lie
// when that can be written: a rename then never leaves half a file.
class WorkFolder {
 public:
  explicit WorkFolder(const std::vector<std::string>& wanted) {
    for (const std::string& folder : wanted) {
      std::error_code e;
      fs::create_directories(folder, e);
      std::string name = folder + "/.unhang-XXXXXX";
      if (mkdtemp(name.data()) == nullptr) continue;
      path_ = name;
      return;
    }
  }
  ~WorkFolder() {
    std::error_code e;
    if (!path_.empty()) fs::remove_all(path_, e);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// "ntkrnlmp.pdb" -> "ntkrnlmp.pd_".
std::string packed_name(std::string name) {
  name.back() = '_';
  return name;
}

std::string key_path(const image::PdbId& id) {
  return id.name + "/" + id.key() + "/";
}

// With index2.txt in its root a store has one more level: the first two characters of the name.
std::string folder_of(const std::string& store, const image::PdbId& id) {
  std::error_code e;
  const bool deep = fs::exists(store + "/index2.txt", e);
  return deep ? store + "/" + id.name.substr(0, 2) + "/" + key_path(id) : store + "/" + key_path(id);
}

std::string read_pointer(const std::string& path) {
  std::string text(kMostPointer, '\0');
  std::ifstream in(path, std::ios::binary);
  in.read(text.data(), kMostPointer);
  text.resize(static_cast<size_t>(in.gcount()));
  const size_t end = text.find_first_of(std::string_view("\r\n\0", 3));
  if (end != std::string::npos) text.resize(end);
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

bool is_url(const std::string& s) {
  return s.starts_with("http://") || s.starts_with("https://");
}

// Copied beside and renamed. The problem, or nothing.
std::string copy_to(const std::string& from, const std::string& folder, const std::string& name) {
  std::error_code e;
  fs::create_directories(folder, e);
  const std::string beside = fmt::format("{}/.{}.{}", folder, name, getpid());
  if (!e) fs::copy_file(from, beside, fs::copy_options::overwrite_existing, e);
  if (!e) fs::rename(beside, folder + "/" + name, e);
  if (!e) return {};
  const std::string problem = fmt::format("{}: {}", folder, e.message());
  fs::remove(beside, e);
  return problem;
}

}  // namespace

struct Fetcher::Work {
  const image::PdbId& id;
  const Progress& progress;
  const std::string& folder;  // of our own
  Fetched& result;
  std::string file;  // the PDB, when it is there and good

  void problem(std::string sentence) { result.problems.push_back(std::move(sentence)); }
};

Fetcher::Fetcher(SymbolPath path, HttpOptions http, Store& store)
    : path_(std::move(path)), store_(store), most_(http.most_bytes), http_(std::move(http)) {}

bool Fetcher::usable(const std::string& name) {
  if (name.size() < 2 || name.size() > 255 || name.front() == '.' || name.back() == '.') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) >= ' ' && c != 0x7f && c != '/' && c != '\\';
  });
}

std::vector<std::string> Fetcher::urls(const image::PdbId& id) const {
  std::vector<std::string> out;
  if (!usable(id.name)) return out;
  const std::string name = Http::escape(id.name);
  for (const PathElement& e : path_.elements)
    for (const SymbolStore& s : e.stores)
      if (s.http) out.push_back(fmt::format("{}/{}/{}/{}", s.location, name, id.key(), name));
  return out;
}

Fetched Fetcher::fetch(const image::PdbId& id, const Progress& progress) {
  Fetched result;
  if (!usable(id.name)) {
    result.problems.push_back("the name of its PDB cannot be part of an address");
    return result;
  }
  for (const PathElement& element : path_.elements)
    for (size_t i = 0; i < element.stores.size(); i++) {
      std::vector<std::string> folders;
      for (size_t near = 0; near < i; near++)
        if (!element.stores[near].http) folders.push_back(element.stores[near].location);
      std::error_code e;
      folders.push_back(fs::temp_directory_path(e).string());
      const WorkFolder folder(folders);
      if (folder.path().empty()) {
        result.problems.push_back("no folder for temporary files can be written");
        return result;
      }
      Work work{id, progress, folder.path(), result, ""};
      if (!from_store(work, element, i)) continue;
      keep(work, element, i);
      result.ok = true;
      return result;
    }
  return result;
}

bool Fetcher::from_store(Work& work, const PathElement& element, size_t store) {
  const SymbolStore& s = element.stores[store];
  const size_t problems = work.result.problems.size();
  const bool found = s.http
                         ? from_server(work, s.location)
                         : from_folder(work, s.location, element.plain && store + 1 == element.stores.size());
  if (!found && work.result.problems.size() == problems) work.result.asked.push_back(s.location);
  return found;
}

bool Fetcher::from_folder(Work& work, const std::string& folder, bool plain) {
  const std::string& name = work.id.name;
  const std::string home = folder_of(folder, work.id);
  std::vector<std::string> places{home + name, home + packed_name(name)};
  // Where debuggers look in a plain folder.
  if (plain)
    for (const char* under : {"/", "/pdb/", "/symbols/pdb/"}) places.push_back(folder + under + name);
  std::error_code e;
  for (const std::string& place : places)
    if (fs::is_regular_file(place, e) && take(work, place, place)) return true;
  const std::string pointer = home + "file.ptr";
  return fs::is_regular_file(pointer, e) && follow(work, read_pointer(pointer), pointer, false);
}

bool Fetcher::from_server(Work& work, const std::string& server) {
  const std::string name = Http::escape(work.id.name);
  const std::string home = fmt::format("{}/{}/{}/", server, name, work.id.key());
  if (const auto down = down_.find(server); down != down_.end()) {
    work.problem(fmt::format("{}: {}", server, down->second));
    return false;
  }
  const size_t problems = work.result.problems.size();
  std::string unreachable;
  const bool found = download(work, home + name, &unreachable);
  if (!unreachable.empty()) down_[server] = unreachable;
  if (found) return true;
  // A server that cannot be reached is not asked for the other forms.
  if (work.result.problems.size() != problems) return false;
  if (download(work, home + Http::escape(packed_name(work.id.name)))) return true;
  if (work.result.problems.size() != problems) return false;
  const std::string file = work.folder + "/file.ptr", url = home + "file.ptr";
  const HttpReply reply = http_.get(url, file, work.progress);
  if (reply.outcome == HttpReply::Outcome::failed) work.problem(fmt::format("{}: {}", url, reply.problem));
  if (reply.outcome != HttpReply::Outcome::found) return false;
  return follow(work, read_pointer(file), url, true);
}

// "PATH:" and "MSG:" of a file.ptr; without either it is a path.
bool Fetcher::follow(Work& work, const std::string& pointer, const std::string& where, bool server) {
  if (pointer.starts_with("MSG:")) {
    work.problem(fmt::format("{}: {}", where, pointer.substr(4)));
    return false;
  }
  const std::string path = pointer.starts_with("PATH:") ? pointer.substr(5) : pointer;
  if (is_url(path)) return download(work, path);
  // A server has no business with the files of this machine.
  if (server || !path.starts_with('/')) {
    work.problem(fmt::format("{}: it points to {}, which cannot be reached from here", where,
                             path.empty() ? "nothing" : path));
    return false;
  }
  std::error_code e;
  if (fs::is_regular_file(path, e)) return take(work, path, path);
  work.problem(fmt::format("{}: it points to {}, which is no file", where, path));
  return false;
}

bool Fetcher::download(Work& work, const std::string& url, std::string* unreachable) {
  const std::string file = work.folder + "/download";
  const HttpReply reply = http_.get(url, file, work.progress);
  work.result.bytes += reply.bytes;
  if (reply.outcome == HttpReply::Outcome::failed) work.problem(fmt::format("{}: {}", url, reply.problem));
  if (unreachable != nullptr && reply.unreachable) *unreachable = reply.problem;
  return reply.outcome == HttpReply::Outcome::found && take(work, file, url);
}

// Unpacks and checks. A file of our own is moved, others are left where they are.
bool Fetcher::take(Work& work, const std::string& file, const std::string& where) {
  auto refuse = [&](const std::string& why) {
    work.problem(fmt::format("{}: {}", where, why));
    return false;
  };
  // The importer takes the PDB's name from the file's.
  const std::string named = work.folder + "/" + work.id.name;
  std::error_code e;
  auto opened = File::open(file);
  if (!opened) return refuse(text(opened.error()));
  if (is_cabinet((*opened)->bytes())) {
    std::ofstream out(named, std::ios::binary);
    const auto unpacked = unpack_cabinet((*opened)->bytes(), most_, [&](std::span<const u8> bytes) {
      out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      return out.good();
    });
    if (!unpacked) return refuse(text(unpacked.error()));
    if (!out.flush()) return refuse("cannot write what is in it");
  } else if (file.starts_with(work.folder)) {
    fs::rename(file, named, e);
  } else {
    fs::copy_file(file, named, fs::copy_options::overwrite_existing, e);
  }
  if (e) return refuse(e.message());
  opened = File::open(named);
  if (!opened) return refuse(text(opened.error()));
  const auto bytes = import_symbols(*opened);
  if (!bytes) return refuse(text(bytes.error()));
  const auto layout = Layout::from_bytes(*bytes, named);
  if (!layout) return refuse(text(layout.error()));
  const image::PdbId& got = (*layout)->pdb();
  if (!got.same(work.id))
    return refuse(fmt::format("it is another build's PDB: {}, not {}", got.key(), work.id.key()));
  if (const auto kept = store_.keep(**layout, *bytes); !kept) return refuse(text(kept.error()));
  work.file = named;
  work.result.from = where;
  return true;
}

// Fills the nearer folders of the element ("downstream stores").
void Fetcher::keep(Work& work, const PathElement& element, size_t store) {
  for (size_t near = 0; near < store; near++) {
    const SymbolStore& s = element.stores[near];
    if (s.http) continue;
    const std::string home = folder_of(s.location, work.id);
    std::string problem = copy_to(work.file, home, work.id.name);
    if (problem.empty())
      work.result.kept_in.push_back(home + work.id.name);
    else
      work.problem(std::move(problem));
  }
}

}  // namespace unhang::symbols
