// A PE32+ image (or a PE32 one, of 32-bit code in a 64-bit Windows), from a file or from the memory of a
// dump: the same code reads both, through a Source<Rva>. Pages may be missing anywhere; what is not there is
// an error or a gap, never a guess.
//
// Source: Microsoft's public PE/COFF specification and "x64 exception handling".
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/confidence.h"
#include "base/source.h"
#include "image/pdb_id.h"
#include "memory/read.h"

namespace unhang::image {

// An image as it lies in an address space.
class MemoryImage final : public Source<Rva> {
 public:
  MemoryImage(const Source<VirtAddr>& space, VirtAddr base) : space_(space), base_(base) {}
  Result<Slice> at(Rva rva) const override { return space_.at(base_ + rva.value()); }

 private:
  const Source<VirtAddr>& space_;
  VirtAddr base_;
};

// An image file on disk, mapped section by section as the loader would.
class FileImage final : public Source<Rva> {
 public:
  // bytes must outlive the image. Errors: bad_file.
  static Result<std::shared_ptr<FileImage>> open(std::span<const u8> bytes);
  Result<Slice> at(Rva rva) const override;

 private:
  struct Part {
    u64 rva, size, offset;
  };
  std::span<const u8> bytes_;
  std::vector<Part> parts_;
};

struct Section {
  std::string name;
  Rva rva{};
  u64 size = 0;
  u32 flags = 0;
  bool executable() const { return (flags & 0x2000'0000) != 0; }
  bool writable() const { return (flags & 0x8000'0000) != 0; }
};

struct Export {
  Rva rva{};
  std::string name;
};

// RUNTIME_FUNCTION of .pdata.
struct RuntimeFunction {
  u32 begin = 0;
  u32 end = 0;
  u32 unwind = 0;
  bool contains(Rva rva) const { return rva.value() >= begin && rva.value() < end; }
};

// What is there of .pdata.
struct Pdata {
  std::vector<RuntimeFunction> entries;  // sorted, without the missing ones
  std::vector<u32> index;                // place of each in the table: a jump is a hole
  u32 total = 0;
  std::vector<memory::Hole> holes;  // missing parts of the table, in bytes
};

class Image {
 public:
  // Errors: those of reading, bad_file (no PE header), unsupported (neither x64 nor, where that will do,
  // x86).
  enum class Accept { x64, x64_or_x86 };
  static Result<Image> open(std::shared_ptr<const Source<Rva>> bytes, Accept accept = Accept::x64);

  // 32-bit code: it has no unwind data.
  bool x86() const { return x86_; }

  const Source<Rva>& bytes() const { return *bytes_; }
  u64 size() const { return size_; }
  u32 time_stamp() const { return time_stamp_; }
  u32 checksum() const { return checksum_; }
  Rva entry_point() const { return entry_point_; }
  const std::vector<Section>& sections() const { return sections_; }
  const Section* section(Rva rva) const;

  // How sure it is that these are the loaded image's bytes: less than exact when a file stands in for memory.
  Confidence trust() const { return trust_; }
  void set_trust(Confidence trust) { trust_ = trust; }

  // The CodeView record, when the page it lies in is there.
  Result<PdbId> pdb_id() const;
  // The name that the image gives itself in its export directory ("ntoskrnl.exe").
  Result<std::string> export_name() const;
  // Named exports, sorted by address; forwarders left out. Read once; partial when pages are missing.
  const std::vector<Export>& exports() const;
  std::optional<Rva> find_export(std::string_view name) const;

  // The function that contains an address. nullopt: a leaf function, which needs no entry. Errors: the page
  // of .pdata that would say so is missing.
  Result<std::optional<RuntimeFunction>> function_at(Rva rva) const;

 private:
  struct Directory {
    Rva rva{};
    u32 size = 0;
  };
  Result<Directory> directory(size_t number) const;
  const Pdata& pdata() const;

  std::shared_ptr<const Source<Rva>> bytes_;
  bool x86_ = false;
  Confidence trust_ = Confidence::exact;
  u64 size_ = 0;
  u32 time_stamp_ = 0;
  u32 checksum_ = 0;
  Rva entry_point_{};
  std::vector<Directory> directories_;
  std::vector<Section> sections_;
  mutable std::optional<std::vector<Export>> exports_;
  mutable std::optional<Pdata> pdata_;
};

}  // namespace unhang::image
