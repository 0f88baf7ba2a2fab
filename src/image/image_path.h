// Image files on this machine, for pages that a dump does not have. A file is used only when it is the same
// build as what was loaded.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/confidence.h"
#include "base/file.h"
#include "image/image.h"

namespace unhang::image {

// What is known of a loaded image.
struct Wanted {
  std::string name;    // of the file, without a folder
  u32 time_stamp = 0;  // TimeDateStamp of its header; 0: not known
  u64 size = 0;        // SizeOfImage
  std::optional<PdbId> pdb;
};

struct DiskImage {
  std::string path;
  std::shared_ptr<const File> file;
  std::shared_ptr<const FileImage> bytes;
  std::shared_ptr<const Image> image;
  // exact: the GUIDs of the PDBs are the same; derived: name, time stamp and size are.
  Confidence trust = Confidence::derived;
};

// Folders with image files: under their names, or as a symbol server keeps them, name/TIMESTAMPSIZE/name
// (source: Microsoft, "SymStore": TimeDateStamp as %08X, SizeOfImage as %x).
class ImagePath {
 public:
  explicit ImagePath(std::vector<std::string> folders) : folders_(std::move(folders)) {}
  bool empty() const { return folders_.empty(); }

  // Null: no folder has it. Asked once for each image.
  const DiskImage* find(const Wanted& wanted);
  // Files of the right name that are other builds or no images, since the last call.
  std::vector<Gap> take_refused() { return std::exchange(refused_, {}); }

 private:
  std::optional<DiskImage> open(const std::string& path, const Wanted& wanted);

  std::vector<std::string> folders_;
  std::map<std::string, std::optional<DiskImage>> found_;
  std::vector<Gap> refused_;
};

// An image in memory; what memory lacks of its headers and of sections that nobody writes to comes from disk.
class BackedImage final : public Source<Rva> {
 public:
  BackedImage(std::shared_ptr<const Source<Rva>> memory, const DiskImage& disk)
      : memory_(std::move(memory)), disk_(disk) {}
  Result<Slice> at(Rva rva) const override;

 private:
  std::shared_ptr<const Source<Rva>> memory_;
  DiskImage disk_;
};

}  // namespace unhang::image
