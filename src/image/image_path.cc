#include "image/image_path.h"

#include <algorithm>
#include <filesystem>

#include "base/ascii.h"
#include "base/format.h"

namespace unhang::image {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMostFiles = 1 << 16;  // names that are compared in one folder

// Entries of a folder that are called so: Windows does not tell cases apart.
std::vector<std::string> called(const std::string& folder, const std::string& name) {
  std::vector<std::string> out;
  std::error_code e;
  size_t seen = 0;
  for (fs::directory_iterator it(folder, e), end; !e && it != end && seen < kMostFiles;
       it.increment(e), seen++)
    if (lower(it->path().filename().string()) == name) out.push_back(it->path().string());
  return out;
}

}  // namespace

const DiskImage* ImagePath::find(const Wanted& wanted) {
  // The name comes from a dump.
  if (wanted.name.empty() || wanted.name.find('/') != std::string::npos || wanted.name.front() == '.')
    return nullptr;
  const std::string name = lower(wanted.name);
  const std::string key = fmt::format("{:08X}{:x}", wanted.time_stamp, wanted.size);
  auto [it, added] = found_.try_emplace(name + "/" + key);
  if (added) {
    std::vector<std::string> files;
    std::error_code e;
    for (const std::string& folder : folders_)
      for (const std::string& entry : called(folder, name)) {
        if (!fs::is_directory(entry, e)) {
          files.push_back(entry);
          continue;
        }
        for (const std::string& build : called(entry, lower(key)))
          for (const std::string& file : called(build, name)) files.push_back(file);
      }
    for (const std::string& file : files)
      if (auto disk = open(file, wanted)) {
        it->second = std::move(disk);
        break;
      }
  }
  return it->second ? &*it->second : nullptr;
}

std::optional<DiskImage> ImagePath::open(const std::string& path, const Wanted& wanted) {
  auto refuse = [&](std::string why) {
    refused_.push_back({"image file", path, std::move(why)});
    return std::nullopt;
  };
  DiskImage d{.path = path};
  auto file = File::open(path);
  if (!file) return refuse(text(file.error()));
  d.file = *file;
  auto bytes = FileImage::open(d.file->bytes().span());
  if (!bytes) return refuse(text(bytes.error()));
  d.bytes = *bytes;
  auto image = Image::open(d.bytes, Image::Accept::x64_or_x86);
  if (!image) return refuse(text(image.error()));
  d.image = std::make_shared<Image>(std::move(*image));
  const auto pdb = d.image->pdb_id();
  if (wanted.pdb && pdb) {
    if (!wanted.pdb->same(*pdb))
      return refuse(fmt::format("another build than the loaded one: its PDB is {}, not {}", pdb->key(),
                                wanted.pdb->key()));
    d.trust = Confidence::exact;
  }
  if (d.image->size() != wanted.size)
    return refuse(fmt::format("another build than the loaded one: its size is {:#x}, not {:#x}",
                              d.image->size(), wanted.size));
  if (d.trust == Confidence::exact) return d;
  if (wanted.time_stamp == 0)
    return refuse("the dump has neither the GUID nor the time stamp of the loaded one to compare");
  if (d.image->time_stamp() != wanted.time_stamp)
    return refuse(fmt::format("another build than the loaded one: its time stamp is {:08X}, not {:08X}",
                              d.image->time_stamp(), wanted.time_stamp));
  return d;
}

Result<Slice> BackedImage::at(Rva rva) const {
  Result<Slice> there = memory_->at(rva);
  if (there) return there;
  const Section* section = disk_.image->section(rva);
  if (section != nullptr && section->writable()) return there;
  Result<Slice> file = disk_.bytes->at(rva);
  return file ? file : there;
}

}  // namespace unhang::image
