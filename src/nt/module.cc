#include "nt/module.h"

#include <algorithm>
#include <utility>

#include "base/format.h"

namespace unhang::nt {

namespace {

constexpr u64 kMostFunction32 = 0x1000;  // bytes behind an export of 32-bit code that may be its function's
constexpr u64 kMostLeaf = 0x20;          // bytes of a leaf function that an export alone names

std::string short_name(const std::string& file) {
  std::string s = file.substr(0, file.find_last_of('.'));
  // WinDbg's module names are identifiers.
  for (char& c : s)
    if (c == '.' || c == '-' || c == ' ') c = '_';
  return s;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    auto low = [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : +c; };
    return low(x) == low(y);
  });
}

}  // namespace

Module::Module(std::string file_name, std::string path, VirtAddr base, u64 size)
    : file_name_(std::move(file_name)),
      path_(std::move(path)),
      name_(short_name(file_name_)),
      base_(base),
      size_(size) {}

void Module::set_location(std::string file_name, std::string path, u64 size) {
  file_name_ = std::move(file_name);
  path_ = std::move(path);
  if (size_ == 0) size_ = size;
}

void Module::open_image(const Source<VirtAddr>& space, image::ImagePath& files) {
  if (image_ || image_error_) return;
  const auto memory = std::make_shared<image::MemoryImage>(space, base_);
  auto image = image::Image::open(memory, image::Image::Accept::x64_or_x86);
  if (!files.empty()) {
    image::Wanted wanted{.name = file_name_, .time_stamp = time_stamp_, .size = size_};
    if (image) {
      wanted.time_stamp = image->time_stamp();
      wanted.size = image->size();
      if (auto id = image->pdb_id()) wanted.pdb = std::move(*id);
    }
    if (const image::DiskImage* disk = files.find(wanted)) {
      auto backed = image::Image::open(std::make_shared<image::BackedImage>(memory, *disk),
                                       image::Image::Accept::x64_or_x86);
      if (backed) {
        image = std::move(backed);
        image->set_trust(disk->trust);
        image_file_ = disk->path;
      }
    }
  }
  if (!image) {
    image_error_ = image.error();
    return;
  }
  image_ = std::move(*image);
  if (size_ == 0) size_ = image_->size();
  if (auto id = image_->pdb_id()) pdb_ = std::move(*id);
}

void Module::set_symbols(std::shared_ptr<const symbols::Layout> layout, std::string from) {
  symbols_ = std::move(layout);
  symbols_from_ = std::move(from);
}

std::optional<Module::Named> Module::name_of(VirtAddr va) const {
  const Rva rva(va - base_);
  auto named = [&](std::string_view symbol, Rva at) {
    const u64 offset = rva - at;
    return Named{offset == 0 ? std::string(symbol) : fmt::format("{}+{:#x}", symbol, offset),
                 std::string(symbol), offset};
  };
  if (symbols_ != nullptr)
    if (const auto s = symbols_->symbol_at(rva)) return named(s->name, s->rva);
  if (!image_) return std::nullopt;
  // Exports name a few functions only: the nearest one below may be another function far away. It is the
  // right one when the unwind data has a function that begins there and contains the address.
  const auto& exports = image_->exports();
  auto it = std::upper_bound(exports.begin(), exports.end(), rva,
                             [](Rva a, const image::Export& e) { return a < e.rva; });
  if (it == exports.begin()) return std::nullopt;
  --it;
  while (it != exports.begin() && std::prev(it)->rva == it->rva) --it;
  if (it->rva == rva) return named(it->name, it->rva);
  // 32-bit code has no unwind data that tells where functions end: the name is the nearest one, as debuggers
  // show it, and the offset says how near.
  if (image_->x86()) {
    const bool near = rva - it->rva < kMostFunction32 && image_->section(rva) == image_->section(it->rva);
    return near ? std::optional(named(it->name, it->rva)) : std::nullopt;
  }
  const auto function = image_->function_at(rva);
  if (!function) return std::nullopt;
  if (*function)
    return (*function)->begin == it->rva.value() ? std::optional(named(it->name, it->rva)) : std::nullopt;
  // Leaf functions have no unwind data: the system call stubs of ntdll, 0x20 bytes each, are such. The
  // address is in the export when no other function lies between.
  if (rva - it->rva >= kMostLeaf) return std::nullopt;
  for (Rva between = it->rva; between < rva; between += 1)
    if (const auto other = image_->function_at(between); !other || *other) return std::nullopt;
  return named(it->name, it->rva);
}

std::optional<VirtAddr> Module::find(std::string_view symbol) const {
  if (symbols_ != nullptr)
    if (const auto rva = symbols_->find_symbol(symbol)) return base_ + rva->value();
  if (image_)
    if (const auto rva = image_->find_export(symbol)) return base_ + rva->value();
  return std::nullopt;
}

void ModuleList::add(std::unique_ptr<Module> module) {
  auto it = std::upper_bound(modules_.begin(), modules_.end(), module->base(),
                             [](VirtAddr a, const auto& m) { return a < m->base(); });
  if (it != modules_.begin() && (*std::prev(it))->base() == module->base()) return;
  modules_.insert(it, std::move(module));
}

const Module* ModuleList::find(VirtAddr va) const {
  auto it = std::upper_bound(modules_.begin(), modules_.end(), va,
                             [](VirtAddr a, const auto& m) { return a < m->base(); });
  if (it == modules_.begin()) return nullptr;
  --it;
  return (*it)->contains(va) ? it->get() : nullptr;
}

Module* ModuleList::find(VirtAddr va) {
  return const_cast<Module*>(std::as_const(*this).find(va));
}

const Module* ModuleList::find_name(std::string_view name) const {
  for (const auto& m : modules_)
    if (equal_ignoring_case(m->name(), name) || equal_ignoring_case(m->file_name(), name)) return m.get();
  return nullptr;
}

}  // namespace unhang::nt
