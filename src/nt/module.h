// Loaded images: the kernel's from PsLoadedModuleList, a process's from its PEB.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "image/image.h"
#include "image/image_path.h"
#include "symbols/store.h"

namespace unhang::nt {

class Module {
 public:
  Module(std::string file_name, std::string path, VirtAddr base, u64 size);

  // "nt", "Ntfs", "win32k": the file's name without its extension, as WinDbg writes it.
  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }
  // What the loader's list says of a module that was found otherwise; its name stays.
  void set_location(std::string file_name, std::string path, u64 size);
  const std::string& file_name() const { return file_name_; }
  const std::string& path() const { return path_; }
  VirtAddr base() const { return base_; }
  u64 size() const { return size_; }
  bool contains(VirtAddr va) const { return va - base_ < size_; }

  // The image in memory, or the substitute on disk that the user gave. Null when its header cannot be read.
  const image::Image* image() const { return image_ ? &*image_ : nullptr; }
  const std::optional<Error>& image_error() const { return image_error_; }
  const std::optional<image::PdbId>& pdb() const { return pdb_; }
  const symbols::Layout* symbols() const { return symbols_.get(); }
  const std::string& symbols_from() const { return symbols_from_; }

  // TimeDateStamp of the header as the loader's list has it; 0: not known.
  void set_time_stamp(u32 time_stamp) { time_stamp_ = time_stamp; }

  // files: where image files are looked for that stand in for what memory does not have.
  void open_image(const Source<VirtAddr>& space, image::ImagePath& files);
  // The file that stands in; empty: none.
  const std::string& image_file() const { return image_file_; }
  void set_symbols(std::shared_ptr<const symbols::Layout> layout, std::string from);
  bool looked_for_symbols = false;

  // "KiSwapContext+0x7a" by symbols, an export's name when the address is inside that function, else
  // "+0x123".
  struct Named {
    std::string text;    // without the module: "KiSwapContext+0x7a"; empty: only module+offset is known
    std::string symbol;  // "KiSwapContext"
    u64 offset = 0;
  };
  std::optional<Named> name_of(VirtAddr va) const;
  std::optional<VirtAddr> find(std::string_view symbol) const;

 private:
  std::string file_name_, path_, name_;
  VirtAddr base_{};
  u64 size_ = 0;
  u32 time_stamp_ = 0;
  std::string image_file_;
  std::optional<image::Image> image_;
  std::optional<Error> image_error_;
  std::optional<image::PdbId> pdb_;
  std::shared_ptr<const symbols::Layout> symbols_;
  std::string symbols_from_;
};

// Modules of one address space, by address.
class ModuleList {
 public:
  void add(std::unique_ptr<Module> module);
  const Module* find(VirtAddr va) const;
  Module* find(VirtAddr va);
  const Module* find_name(std::string_view name) const;
  const std::vector<std::unique_ptr<Module>>& all() const { return modules_; }

 private:
  std::vector<std::unique_ptr<Module>> modules_;  // sorted by base
};

}  // namespace unhang::nt
