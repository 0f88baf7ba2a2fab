#include "dump/migration_stream.h"

#include <algorithm>
#include <bit>

#include "base/format.h"
#include "dump/cursor.h"
#include "dump/overlay.h"

namespace unhang::dump {

namespace {

constexpr const char* kType = "QEMU migration stream";
enum Record : u8 {
  kEnd = 0,
  kStart = 1,
  kPart = 2,
  kSectionEnd = 3,
  kFull = 4,
  kSubsection = 5,
  kDescription = 6,
  kConfiguration = 7,
  kCommand = 8,
  kFooter = 0x7e,
};
enum RamFlag : u64 {
  kZero = 0x02,
  kMemSize = 0x04,
  kPage = 0x08,
  kEos = 0x10,
  kContinue = 0x20,
  kXbzrle = 0x40,
  kHook = 0x80,
  kCompressed = 0x100,
  kMultifdFlush = 0x200,
};
constexpr u64 kMostPages = u64{1} << 40;  // of all blocks together
constexpr size_t kMostBlocks = 4096;
constexpr u64 kMostHugePage = u64{16} << 30;  // of any Linux host; x86 has 2 MiB and 1 GiB

std::unexpected<Error> bad(const char* detail, u64 offset = 0) {
  return fail(Error{.why = Why::bad_file, .offset = offset, .type = kType, .detail = detail});
}
std::unexpected<Error> unsupported(const char* detail, u64 offset = 0) {
  return fail(Error{.why = Why::unsupported, .offset = offset, .type = kType, .detail = detail});
}

class Reader {
 public:
  Reader(std::shared_ptr<const File> file, u64 offset, const Progress& progress)
      : in_(file->bytes(), offset), base_(offset), progress_(progress) {
    out_.file = std::move(file);
  }

  Result<MigrationStream> read() {
    in_.take(4);
    if (const u32 version = in_.be32(); in_.ok() && version != 3)
      return unsupported("only version 3 is known", base_ + 4);
    while (in_.ok() && !ram_done_ && !stopped_) TRY_VOID(record());
    if (out_.blocks.empty()) return bad("truncated before any memory");
    if (written_.empty() && std::ranges::none_of(out_.blocks, &RamBlock::mapped))
      return bad("truncated before any memory", in_.at());
    if (ram_done_)
      out_.devices = in_.at();
    else if (!stopped_)
      gap("the stream is truncated before the end of RAM: pages are missing or old, and all CPU registers "
          "are missing");
    out_.runs = latest_wins(written_);
    return std::move(out_);
  }

 private:
  void gap(std::string why) { out_.gaps.push_back({"guest memory", hex(in_.at()), std::move(why)}); }
  // Goes on with what there is: the rest of the stream cannot be understood.
  void stop(std::string why) {
    gap(std::move(why));
    stopped_ = true;
  }

  Result<void> record() {
    const u64 at = in_.at();
    const u8 type = in_.byte();
    if (!in_.ok()) return {};
    switch (type) {
      case kConfiguration:
        configuration();
        return {};
      case kCommand:
        in_.be16();
        in_.take(in_.be16());
        return {};
      case kFooter:
        in_.be32();
        return {};
      case kStart:
      case kFull:
        return section(at);
      case kPart:
      case kSectionEnd: {
        const u32 id = in_.be32();
        if (id != ram_id_ || out_.blocks.empty()) return skip_section(id);
        TRY_VOID(ram());
        if (type == kSectionEnd && in_.ok() && !stopped_) ram_done_ = true;
        return {};
      }
      default:
        stop(fmt::format("an unknown record of type {:#x} before the end of RAM", type));
        return {};
    }
  }

  // The machine's name; subsections follow whose form is known for three of them.
  void configuration() {
    const ByteView name = in_.take(in_.be32());
    out_.machine.assign(reinterpret_cast<const char*>(name.data()), std::min<size_t>(name.size(), 128));
    while (out_.file->bytes().le<u8>(in_.at()) == kSubsection) {
      in_.byte();
      const std::string_view subsection = in_.name();
      in_.be32();
      if (subsection == "configuration/target-page-bits") {
        in_.take(4);
      } else if (subsection == "configuration/uuid") {
        in_.take(16);
      } else if (subsection == "configuration/capabilities") {
        for (u32 n = in_.be32(); n != 0 && in_.ok(); n--) in_.name();
      } else {
        stop("an unknown part of the configuration");
        return;
      }
    }
  }

  Result<void> section(u64 at) {
    const u32 id = in_.be32();
    const std::string_view name = in_.name();
    in_.be32();
    const u32 version = in_.be32();
    if (!in_.ok()) return {};
    if (name != "ram") return skip_section(id);
    if (version != 4) return unsupported("only version 4 of the section \"ram\" is known", at);
    ram_id_ = id;
    return ram();
  }

  // Another device that is sent piecemeal, or early. Its length is nowhere: its end is the footer with its
  // id.
  Result<void> skip_section(u32 id) {
    constexpr u64 kWindow = 64 << 20;
    const u8 footer[5] = {kFooter, static_cast<u8>(id >> 24), static_cast<u8>(id >> 16),
                          static_cast<u8>(id >> 8), static_cast<u8>(id)};
    const auto rest = out_.file->bytes().from(in_.at()).span();
    const auto window = rest.first(std::min<u64>(rest.size(), kWindow));
    const auto hit = std::search(window.begin(), window.end(), std::begin(footer), std::end(footer));
    if (hit == window.end())
      stop("a section of unknown length before the end of RAM");
    else
      in_.take(static_cast<u64>(hit - window.begin()) + sizeof footer);
    return {};
  }

  // Records {address | flags} until the mark EOS.
  Result<void> ram() {
    while (in_.ok() && !stopped_) {
      const u64 at = in_.at();
      if (at >= fetched_) {
        constexpr u64 kAhead = 8 << 20;
        out_.file->will_read(at, 2 * kAhead);
        // Each of the file's pages is touched once: without this the file would count as this process's
        // memory.
        out_.file->forget(forgotten_, at - forgotten_);
        forgotten_ = at;
        fetched_ = at + kAhead;
        if (progress_ && !progress_({"indexing the migration stream", at, out_.file->size()}))
          return fail(Error{.why = Why::limit, .type = kType, .detail = "stopped"});
      }
      const u64 word = in_.be64(), flags = word & (kPageSize - 1), address = word & ~(kPageSize - 1);
      if (!in_.ok()) break;
      if ((flags & kXbzrle) != 0)
        return unsupported("pages sent as differences (XBZRLE): dump without that capability", at);
      if ((flags & kCompressed) != 0)
        return unsupported("compressed pages (capability compress): dump without it", at);
      if ((flags & kHook) != 0) return unsupported("a stream of an RDMA migration", at);
      if (flags == kEos) return {};
      if (flags == kMultifdFlush) continue;
      if (flags == kMemSize) {
        TRY_VOID(mem_size(address));
      } else if ((flags & ~kContinue) == kPage || (flags & ~kContinue) == kZero) {
        page(address, flags);
      } else {
        stop(fmt::format("an unknown RAM record with flags {:#x}", flags));
      }
    }
    return {};
  }

  void page(u64 address, u64 flags) {
    if ((flags & kContinue) == 0) {
      const std::string_view name = in_.name();
      const auto it = std::ranges::find(out_.blocks, name, &RamBlock::name);
      block_ = it == out_.blocks.end() ? nullptr : &*it;
    }
    if (!in_.ok()) return;
    if (block_ == nullptr || address >> kPageShift >= block_->size)
      return stop("a page outside of every RAM block");
    const u64 page = block_->start + (address >> kPageShift);
    if ((flags & kZero) != 0) {
      const u8 fill = in_.byte();
      if (!in_.ok()) return;
      if (fill != 0) return stop("a page filled with another byte than 0");
      add(page, 0);
    } else {
      const u64 offset = in_.at();
      in_.take(kPageSize);
      if (in_.ok()) add(page, offset);
    }
  }

  void add(u64 page, u64 offset) {
    if (!written_.empty()) {
      PageRun& last = written_.back();
      const u64 next = last.offset == 0 ? 0 : last.offset + last.size * PageRun::kStride;
      if (page == last.start + last.size && offset == next) {
        last.size++;
        return;
      }
    }
    written_.push_back({page, 1, offset});
  }

  // The list of blocks. What follows a block's length depends on capabilities that the stream does not always
  // name, so each form is tried; the right one ends where the lengths add up and EOS follows.
  Result<void> mem_size(u64 total) {
    if (!out_.blocks.empty()) return {};
    const u64 at = in_.at();
    for (const Form form :
         {Form{.huge = true}, Form{.mapped = true}, Form{.extra = 8}, Form{.mapped = true, .extra = 8},
          Form{.extra = 16}, Form{.huge = true, .extra = 8}}) {
      in_.seek(at);
      if (read_blocks(total, form)) return {};
    }
    if (at + 1 + 8 >= out_.file->size()) return bad("truncated before any memory", at);
    return bad("the list of RAM blocks is damaged or truncated", at);
  }

  struct Form {
    bool mapped = false;
    // With postcopy-ram, blocks of huge pages and no others say how large these are (QEMU's ram_save_setup).
    bool huge = false;
    u64 extra = 0;  // bytes behind each block
  };

  bool read_blocks(u64 total, const Form& form) {
    const bool mapped = form.mapped;
    out_.blocks.clear();
    Cursor in = in_;
    u64 bytes = 0, start = 0;
    while (bytes < total && out_.blocks.size() < kMostBlocks) {
      RamBlock b{.name = std::string(in.name()), .start = start};
      const u64 length = in.be64();
      // A name cannot follow that begins like this: its length would be 0.
      const u64 size = out_.file->bytes().be<u64>(in.at()).value_or(0);
      if (form.huge && std::has_single_bit(size) && size > kPageSize && size <= kMostHugePage) in.be64();
      in.take(form.extra);
      const bool printable = std::ranges::all_of(b.name, [](char c) { return c > 0x20 && c < 0x7f; });
      b.size = (length >> kPageShift) + (length % kPageSize != 0 ? 1 : 0);
      if (!in.ok() || b.name.empty() || !printable || length > total - bytes || start + b.size > kMostPages)
        break;
      if (mapped && !read_mapped(in, b)) break;
      bytes += length;
      start += b.size;
      out_.blocks.push_back(std::move(b));
    }
    // The pages of a block reach beyond the end of a file that is truncated.
    if (mapped && !out_.blocks.empty() && in.at() >= out_.file->size()) {
      in_ = in;
      return true;
    }
    const u64 next = out_.file->bytes().be<u64>(in.at()).value_or(kEos);
    if (bytes == total && in.ok() && !out_.blocks.empty() &&
        (next == kEos || next == kMultifdFlush || next == kHook)) {
      in_ = in;
      return true;
    }
    out_.blocks.clear();
    return false;
  }

  // mapped-ram: {u32 version; u64 page_size, bitmap_offset, pages_offset}; bitmap and pages follow, and the
  // stream goes on behind them.
  bool read_mapped(Cursor& in, RamBlock& b) {
    const u32 version = in.be32();
    const u64 page_size = in.be64(), bitmap = in.be64(), pages = in.be64();
    const u64 bytes = (b.size + 63) / 64 * 8;
    if (!in.ok() || version != 1 || page_size != kPageSize) return false;
    // Offsets count from the beginning of the file; older writers counted from the stream.
    for (const u64 base : {u64{0}, base_}) {
      if (bitmap + base != in.at() || pages < bitmap || pages > (u64{1} << 60)) continue;
      const auto bits = out_.file->bytes().sub(bitmap + base, bytes);
      if (!bits) return false;
      b.mapped = true;
      b.present = PageBitmap(*bits, b.size);
      b.pages_offset = pages + base;
      in.seek(b.pages_offset + (b.size << kPageShift));
      return true;
    }
    return false;
  }

  Cursor in_;
  u64 base_;
  const Progress& progress_;
  MigrationStream out_;
  std::vector<PageRun> written_;
  u32 ram_id_ = ~u32{0};
  RamBlock* block_ = nullptr;
  u64 fetched_ = 0, forgotten_ = 0;
  bool ram_done_ = false;
  bool stopped_ = false;
};

}  // namespace

Result<MigrationStream> read_migration(std::shared_ptr<const File> file, u64 offset,
                                       const Progress& progress) {
  return Reader(std::move(file), offset, progress).read();
}

}  // namespace unhang::dump
