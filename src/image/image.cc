#include "image/image.h"

#include <algorithm>

#include "base/bytes.h"
#include "memory/read.h"

namespace unhang::image {

namespace {

constexpr u16 kMachineAmd64 = 0x8664, kMachineI386 = 0x14c;
constexpr u16 kPe32Plus = 0x20b, kPe32 = 0x10b;
enum DirectoryNumber : size_t { kExportDirectory = 0, kExceptionDirectory = 3, kDebugDirectory = 6 };
// Bounds against lying headers, far above what real images have (ntoskrnl: 3,300 exports, 35,000 functions).
constexpr u32 kMaxSections = 96;
constexpr u32 kMaxExports = 1 << 17;
constexpr u32 kMaxPdata = 1 << 25;

std::unexpected<Error> bad(const char* detail) {
  return fail(Error{.why = Why::bad_file, .type = "PE image", .detail = detail});
}

struct SectionHeader {
  char name[8];
  u32 virtual_size, virtual_address, raw_size, raw_offset, relocations, lines;
  u16 relocation_count, line_count;
  u32 flags;
};
static_assert(sizeof(SectionHeader) == 40);

struct ExportDirectory {
  u32 flags, time_stamp;
  u16 major, minor;
  u32 name, base, functions, names, function_table, name_table, ordinal_table;
};
static_assert(sizeof(ExportDirectory) == 40);

struct DebugDirectory {
  u32 flags, time_stamp;
  u16 major, minor;
  u32 type, size, rva, offset;
};
static_assert(sizeof(DebugDirectory) == 28);

}  // namespace

Result<std::shared_ptr<FileImage>> FileImage::open(std::span<const u8> bytes) {
  const ByteView b{bytes};
  auto image = std::make_shared<FileImage>();
  image->bytes_ = bytes;
  const u64 nt = b.at<u32>(0x3c);
  if (!b.starts_with("MZ") || !b.from(nt).starts_with({"PE\0\0", 4})) return bad("no PE header");
  const u16 count = b.at<u16>(nt + 6);
  const u64 table = nt + 24 + b.at<u16>(nt + 20);
  const u64 header_size = std::min<u64>(b.at<u32>(nt + 24 + 60), b.size());
  image->parts_.push_back({0, header_size, 0});
  for (u32 i = 0; i < std::min<u32>(count, kMaxSections); i++) {
    const auto s = b.le<SectionHeader>(table + i * sizeof(SectionHeader));
    if (!s || s->raw_offset >= b.size()) continue;
    const u64 there = std::min<u64>(s->raw_size, b.size() - s->raw_offset);
    image->parts_.push_back({s->virtual_address, std::min<u64>(there, s->virtual_size), s->raw_offset});
  }
  return image;
}

Result<Slice> FileImage::at(Rva rva) const {
  for (const Part& p : parts_)
    if (rva.value() >= p.rva && rva.value() - p.rva < p.size) {
      const u64 into = rva.value() - p.rva;
      return Slice{bytes_.data() + p.offset + into, std::min(p.size - into, rva.left_in_page()), {}};
    }
  return fail(Error{.why = Why::not_in_dump, .type = "PE image", .detail = "not in the file"});
}

Result<Image> Image::open(std::shared_ptr<const Source<Rva>> bytes, Accept accept) {
  Image image;
  image.bytes_ = std::move(bytes);
  const Source<Rva>& s = *image.bytes_;
  if (TRY(memory::read<u16>(s, Rva(0))) != 0x5a4d) return bad("no MZ");
  const u32 nt = TRY(memory::read<u32>(s, Rva(0x3c)));
  // The header lies in the first pages; an offset beyond is no PE file.
  if (nt < 0x40 || nt > 0x1000 || nt % 4 != 0) return bad("no PE header");
  std::array<u8, 264> raw{};
  TRY_VOID(memory::read_exact(s, Rva(nt), raw));
  const ByteView h(raw.data(), raw.size());
  if (!h.starts_with({"PE\0\0", 4})) return bad("no PE header");
  image.x86_ = h.at<u16>(4) == kMachineI386 && h.at<u16>(24) == kPe32;
  const bool x64 = h.at<u16>(4) == kMachineAmd64 && h.at<u16>(24) == kPe32Plus;
  if (!x64 && !(image.x86_ && accept == Accept::x64_or_x86))
    return fail(Error{.why = Why::unsupported, .type = "PE image", .detail = "not an x64 image"});
  image.time_stamp_ = h.at<u32>(8);
  image.entry_point_ = Rva(h.at<u32>(24 + 16));
  image.size_ = h.at<u32>(24 + 56);
  image.checksum_ = h.at<u32>(24 + 64);
  if (image.size_ < kPageSize) return bad("an image smaller than a page");
  // PE32 has no 64-bit addresses in its header: what follows them lies 16 bytes nearer.
  const u64 table_of_directories = 24 + (image.x86_ ? 96 : 112);
  const u32 directories = std::min<u32>(h.at<u32>(table_of_directories - 4), 16);
  for (u32 i = 0; i < directories; i++)
    image.directories_.push_back(
        {Rva(h.at<u32>(table_of_directories + i * 8)), h.at<u32>(table_of_directories + i * 8 + 4)});
  const u32 count = std::min<u32>(h.at<u16>(6), kMaxSections);
  const Rva table = Rva(nt) + 24 + h.at<u16>(20);
  for (u32 i = 0; i < count; i++) {
    const auto e = memory::read<SectionHeader>(s, table + i * sizeof(SectionHeader));
    if (!e) break;
    image.sections_.push_back({std::string(e->name, strnlen(e->name, 8)), Rva(e->virtual_address),
                               std::max(e->virtual_size, e->raw_size), e->flags});
  }
  return image;
}

const Section* Image::section(Rva rva) const {
  for (const Section& s : sections_)
    if (rva >= s.rva && rva - s.rva < s.size) return &s;
  return nullptr;
}

Result<Image::Directory> Image::directory(size_t number) const {
  if (number >= directories_.size() || directories_[number].size == 0)
    return fail(Error{.why = Why::no_symbol, .type = "PE image", .detail = "it has no such directory"});
  const Directory d = directories_[number];
  if (d.rva.value() + d.size > size_) return bad("a directory lies outside of the image");
  return d;
}

Result<PdbId> Image::pdb_id() const {
  const Directory d = TRY(directory(kDebugDirectory));
  for (u32 i = 0; i < std::min<u32>(d.size / sizeof(DebugDirectory), 32); i++) {
    const auto e = TRY(memory::read<DebugDirectory>(*bytes_, d.rva + i * sizeof(DebugDirectory)));
    constexpr u32 kCodeView = 2;
    if (e.type != kCodeView || e.size < 25) continue;
    if (TRY(memory::read<u32>(*bytes_, Rva(e.rva))) != 0x53445352) continue;  // "RSDS"
    PdbId id;
    TRY_VOID(memory::read_exact(*bytes_, Rva(e.rva) + 4, id.guid));
    id.age = TRY(memory::read<u32>(*bytes_, Rva(e.rva) + 20));
    id.name = memory::read_c_string(*bytes_, Rva(e.rva) + 24, std::min<u32>(e.size - 24, 260));
    // Drivers built outside of Microsoft carry a whole path.
    id.name = id.name.substr(id.name.find_last_of("\\/") + 1);
    return id;
  }
  return fail(Error{.why = Why::no_symbol, .type = "PE image", .detail = "it has no CodeView record"});
}

Result<std::string> Image::export_name() const {
  const Directory d = TRY(directory(kExportDirectory));
  const auto e = TRY(memory::read<ExportDirectory>(*bytes_, d.rva));
  return memory::read_c_string(*bytes_, Rva(e.name), 64);
}

const std::vector<Export>& Image::exports() const {
  if (exports_) return *exports_;
  exports_.emplace();
  const auto d = directory(kExportDirectory);
  if (!d) return *exports_;
  const auto e = memory::read<ExportDirectory>(*bytes_, d->rva);
  if (!e || e->names > kMaxExports || e->functions > kMaxExports) return *exports_;
  const auto names = memory::read_sparse(*bytes_, Rva(e->name_table), u64{e->names} * 4);
  const auto ordinals = memory::read_sparse(*bytes_, Rva(e->ordinal_table), u64{e->names} * 2);
  const auto functions = memory::read_sparse(*bytes_, Rva(e->function_table), u64{e->functions} * 4);
  const ByteView nv(names.bytes), ov(ordinals.bytes), fv(functions.bytes);
  for (u64 i = 0; i < e->names; i++) {
    if (!names.has(i * 4, 4) || !ordinals.has(i * 2, 2)) continue;
    const u64 ordinal = ov.at<u16>(i * 2);
    if (!functions.has(ordinal * 4, 4)) continue;
    const Rva rva(fv.at<u32>(ordinal * 4));
    // An address inside the export directory is the text of a forwarder.
    if (rva.is_null() || (rva >= d->rva && rva - d->rva < d->size)) continue;
    std::string name = memory::read_c_string(*bytes_, Rva(nv.at<u32>(i * 4)), 256);
    if (!name.empty()) exports_->push_back({rva, std::move(name)});
  }
  std::stable_sort(exports_->begin(), exports_->end(),
                   [](const Export& a, const Export& b) { return a.rva < b.rva; });
  return *exports_;
}

std::optional<Rva> Image::find_export(std::string_view name) const {
  for (const Export& e : exports())
    if (e.name == name) return e.rva;
  return std::nullopt;
}

const Pdata& Image::pdata() const {
  if (pdata_) return *pdata_;
  pdata_.emplace();
  const auto d = directory(kExceptionDirectory);
  if (!d || d->size > kMaxPdata) return *pdata_;
  const auto table = memory::read_sparse(*bytes_, d->rva, d->size);
  const ByteView view(table.bytes);
  pdata_->holes = table.holes;
  pdata_->total = d->size / 12;
  pdata_->entries.reserve(pdata_->total);
  pdata_->index.reserve(pdata_->total);
  for (u32 i = 0; i < pdata_->total; i++) {
    if (!table.holes.empty() && !table.has(i * u64{12}, 12)) continue;
    const auto f = view.at<RuntimeFunction>(i * u64{12});
    // Zero padding ends many tables; an entry out of order is damage and would break the search.
    if (f.begin >= f.end || f.end > size_) continue;
    if (!pdata_->entries.empty() && f.begin < pdata_->entries.back().begin) continue;
    pdata_->entries.push_back(f);
    pdata_->index.push_back(i);
  }
  return *pdata_;
}

Result<std::optional<RuntimeFunction>> Image::function_at(Rva rva) const {
  const Pdata& p = pdata();
  const auto it = std::upper_bound(p.entries.begin(), p.entries.end(), rva.value(),
                                   [](u64 a, const RuntimeFunction& f) { return a < f.begin; });
  const size_t next = static_cast<size_t>(it - p.entries.begin());
  if (next > 0 && p.entries[next - 1].contains(rva)) return p.entries[next - 1];
  // Not covered. It is a leaf function only if no entry is missing at this place of the table.
  const u32 before = next == 0 ? 0 : p.index[next - 1] + 1;
  const u32 after = next == p.entries.size() ? p.total : p.index[next];
  for (const memory::Hole& h : p.holes) {
    if (h.offset >= after * u64{12} || h.offset + h.size <= before * u64{12}) continue;
    Error e = h.error;
    e.type = ".pdata";
    return fail(e);
  }
  return std::optional<RuntimeFunction>();
}

}  // namespace unhang::image
