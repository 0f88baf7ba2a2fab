#include "app/capture/form.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/format.h"

namespace unhang::app::capture {

namespace {

// What a dump holds beside RAM (firmware, video memory, notes), and what the disk's other users are left.
constexpr u64 kBeside = 128 << 20, kReserve = 128 << 20;
// Windows' memory compresses to a third or a half; below this it is not worth the guest's time to try.
constexpr u64 kLeastRatio = 4;

// Quick compressors first: the guest stands still while they work, and zlib takes 20 s for a gigabyte.
constexpr const char* kCompressed[] = {"kdump-snappy", "kdump-lzo", "kdump-zlib"};

bool compresses(const std::string& format) {
  return format.starts_with("kdump");
}

bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

std::string joined(const std::vector<std::string>& list) {
  std::string s;
  for (const std::string& item : list) {
    if (!s.empty()) s += ", ";
    s += item;
  }
  return s;
}

}  // namespace

std::string size_text(u64 bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib < 1024 ? fmt::format("{:.1f} MiB", mib) : fmt::format("{:.1f} GiB", mib / 1024);
}

Outcome<u64> free_space(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  const std::string folder = parent.empty() ? "." : parent;
  struct statvfs s{};
  if (statvfs(folder.c_str(), &s) != 0) return mistake(fmt::format("{}: {}", folder, std::strerror(errno)));
  return u64{s.f_bavail} * s.f_frsize;
}

Outcome<std::vector<std::string>> choose_formats(const std::string& wanted, const Guest& guest,
                                                 const std::vector<std::string>& offered, u64 free, u64 files,
                                                 const std::string& path) {
  const u64 whole = files * (guest.memory + kBeside) + kReserve;
  const u64 least = files * (guest.memory / kLeastRatio) + kReserve;
  const auto too_little = [&](u64 need, const char* advice) {
    return mistake(fmt::format("{}: {} free there, and {} of a guest with {} may need {}: {}", path,
                               size_text(free), files == 1 ? "a dump" : "two dumps", size_text(guest.memory),
                               size_text(need), advice));
  };
  if (wanted != "auto") {
    if (!contains(offered, wanted))
      return mistake(fmt::format("the host does not offer {}, but {}", wanted, joined(offered)));
    if (free < (compresses(wanted) ? least : whole))
      return too_little(
          compresses(wanted) ? least : whole,
          compresses(wanted) ? "name another folder" : "name another folder or --format kdump-zlib");
    return std::vector<std::string>{wanted};
  }
  std::vector<std::string> formats;
  if (free >= whole && contains(offered, "elf")) formats.push_back("elf");
  if (free >= least)
    for (const char* c : kCompressed)
      if (contains(offered, c)) formats.push_back(c);
  if (formats.empty() && free >= whole)
    return mistake(fmt::format("the host offers no format that this program takes through a pipe, but {}",
                               offered.empty() ? "none at all" : joined(offered)));
  if (formats.empty()) return too_little(least, "even a compressed one needs more; name another folder");
  return formats;
}

}  // namespace unhang::app::capture
