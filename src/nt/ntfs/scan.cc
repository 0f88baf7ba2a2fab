#include "nt/ntfs/scan.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "base/ascii.h"
#include "base/utf.h"
#include "nt/ntfs/record.h"

namespace unhang::nt::ntfs {

namespace {

constexpr u64 kFileRecord = 1024;

// Pages that hold NTFS records, found by their signatures at the only places where they can stand.
bool has_record(const u8* page) {
  if (std::memcmp(page, "INDX", 4) == 0) return true;
  for (u64 at = 0; at < kPageSize; at += kFileRecord)
    if (std::memcmp(page + at, "FILE", 4) == 0) return true;
  return false;
}

struct Seen {
  const Name& name;
  bool from_index;
  bool raw;
};

// Every name of every record in these pages.
template <class Visit>
void for_each_name(const dump::PageSource<PhysAddr>& physical, const std::vector<PhysAddr>& pages,
                   Visit&& visit) {
  std::vector<u8> copy(kPageSize);
  for (const PhysAddr page : pages) {
    const auto slice = physical.at(page);
    if (!slice || slice->size != kPageSize) continue;
    std::memcpy(copy.data(), slice->data, kPageSize);
    if (std::memcmp(copy.data(), "INDX", 4) == 0) {
      const Fixup f = apply_fixups(copy);
      if (f == Fixup::damaged) continue;
      for_each_index_name(copy, [&](const Name& n) { visit(page, Seen{n, true, f == Fixup::applied_here}); });
      continue;
    }
    for (u64 at = 0; at < kPageSize; at += kFileRecord) {
      const std::span<u8> record(copy.data() + at, kFileRecord);
      if (std::memcmp(record.data(), "FILE", 4) != 0 || apply_fixups(record) == Fixup::damaged) continue;
      for_each_file_name(record, [&](const Name& n) { visit(page, Seen{n, false, false}); });
    }
  }
}

std::vector<std::string> components(const std::string& path) {
  std::vector<std::string> out;
  size_t at = 0;
  while (at < path.size()) {
    const size_t end = std::min(path.find('\\', at), path.size());
    if (end > at) out.push_back(lower(path.substr(at, end - at)));
    at = end + 1;
  }
  return out;
}

// Which reference the directory has: by its children, whose entries name their parent, and by the records of
// the directories on its path.
void identify(const dump::PageSource<PhysAddr>& physical, const std::vector<PhysAddr>& pages,
              const std::string& directory, const std::vector<std::string>& children,
              DirectoryContents& out) {
  std::unordered_set<std::string> wanted;
  for (const std::string& c : children) wanted.insert(lower(c));
  const std::vector<std::string> path = components(directory);
  std::map<u64, std::set<std::string>> votes;  // parent -> children found there
  std::unordered_map<u64, std::pair<std::string, u64>>
      folders;  // record number -> name, parent record number
  const std::set<std::string> parts(path.begin(), path.end());
  for_each_name(physical, pages, [&](PhysAddr, const Seen& s) {
    const std::string name = lower(utf16_to_utf8(s.name.utf16));
    if (wanted.contains(name)) votes[s.name.parent].insert(name);
    if (parts.contains(name))
      folders[s.name.file & kRecordNumberMask] = {name, s.name.parent & kRecordNumberMask};
  });
  // Up the path from a candidate: every known folder must be the right one; the root is record 5.
  const auto path_agrees = [&](u64 reference) {
    u64 number = reference & kRecordNumberMask;
    for (size_t i = path.size(); i-- > 0;) {
      const auto it = folders.find(number);
      if (it == folders.end()) return i + 1 < path.size();  // at least its own name was checked
      if (it->second.first != path[i]) return false;
      number = it->second.second;
    }
    return number == 5;
  };
  u64 best = 0;
  size_t most = 0;
  for (const auto& [reference, names] : votes)
    if (names.size() > most) {
      most = names.size();
      best = reference;
    }
  if (most != 0) {
    const bool agrees = path_agrees(best);
    out.reference = best;
    out.how = std::to_string(most) + " open files of the directory stand in its index" +
              (agrees ? ", and the names on its path agree" : "");
    out.confidence = most >= 2 || agrees ? Confidence::derived : Confidence::heuristic;
    return;
  }
  for (const auto& [number, folder] : folders)
    if (!path.empty() && folder.first == path.back() && path_agrees(number)) {
      out.reference = number;
      out.how = "by the names of the directories on its path";
      out.confidence = Confidence::heuristic;
    }
}

}  // namespace

std::string pattern_of(const std::string& name) {
  const size_t dot = name.find_last_of('.');
  const std::string extension = dot != name.npos && dot > 0 && name.size() - dot <= 6 ? name.substr(dot) : "";
  const std::string stem = name.substr(0, name.size() - extension.size());
  size_t end = 0;
  while (end < stem.size() &&
         (std::isalpha(static_cast<unsigned char>(stem[end])) != 0 || (stem[end] & 0x80) != 0))
    end++;
  // One separator belongs to the prefix: "sess_", "IE-".
  if (end < stem.size() && std::strchr("_-.~{ ", stem[end]) != nullptr) end++;
  if (end == stem.size()) return stem + extension;
  return stem.substr(0, end) + "*" + extension;
}

DirectoryContents scan_directory(const dump::PageSource<PhysAddr>& physical, const std::string& directory,
                                 const std::vector<std::string>& children, const dump::ScanOptions& options) {
  DirectoryContents out;
  const dump::PageScan scan = dump::scan_pages(physical, options, has_record);
  const std::vector<PhysAddr>& pages = scan.pages;
  out.bytes_scanned = scan.bytes_scanned;
  out.bytes_total = scan.bytes_total;
  out.seconds = scan.seconds;
  identify(physical, pages, directory, children, out);
  if (out.reference == 0) return out;
  const u64 wanted = out.reference & kRecordNumberMask;
  const u64 sequence = out.reference >> 48;
  struct File {
    std::string name;
    u64 created;
    bool indexed;
  };
  std::unordered_map<u64, File> files;  // by record number
  std::set<PhysAddr> index_pages, raw_pages, record_pages;
  u64 file_records = 0;
  for_each_name(physical, pages, [&](PhysAddr page, const Seen& s) {
    if ((s.name.parent & kRecordNumberMask) != wanted) return;
    if (sequence != 0 && s.name.parent >> 48 != sequence) return;  // an earlier life of the record
    if (s.from_index) {
      index_pages.insert(page);
      if (s.raw) raw_pages.insert(page);
    } else {
      file_records++;
    }
    if (s.name.name_space == 2) {
      out.short_names++;
      return;
    }
    const auto [it, added] = files.try_emplace(
        s.name.file & kRecordNumberMask, File{utf16_to_utf8(s.name.utf16), s.name.created, s.from_index});
    it->second.indexed |= s.from_index;
  });
  out.index_buffers = index_pages.size();
  out.raw_fixups = raw_pages.size();
  out.file_records = file_records;
  out.names = files.size();
  std::unordered_map<std::string, PatternCount> patterns;
  for (const auto& [number, f] : files) {
    if (f.indexed) out.indexed_names++;
    PatternCount& p = patterns[pattern_of(f.name)];
    if (p.count++ == 0) p.example = f.name;
    if (f.created != 0 && (out.oldest == 0 || f.created < out.oldest)) {
      out.oldest = f.created;
      out.oldest_name = f.name;
    }
    if (f.created > out.newest) {
      out.newest = f.created;
      out.newest_name = f.name;
    }
  }
  for (auto& [pattern, p] : patterns) {
    p.pattern = pattern;
    out.patterns.push_back(p);
  }
  std::sort(out.patterns.begin(), out.patterns.end(), [](const PatternCount& a, const PatternCount& b) {
    return a.count != b.count ? a.count > b.count : a.pattern < b.pattern;
  });
  return out;
}

}  // namespace unhang::nt::ntfs
