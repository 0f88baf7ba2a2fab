#include "fuzz.h"

#include <algorithm>
#include <cstdlib>

#include "formats.plugs.h"
#include "memory/read.h"

namespace unhang::dump {

namespace {

constexpr int kMostReads = 400;

template <class A>
void read_some_pages(const PageSource<A>& source) {
  int reads = 0;
  std::array<u8, 3 * kPageSize> room;
  for (const Range<A>& r : source.ranges()) {
    if (r.size == 0) std::abort();  // a range is never empty
    const u64 step = std::max<u64>(kPageSize, r.size / 16);
    for (u64 at = 0; at < r.size && reads < kMostReads; at += step, reads++) {
      const auto slice = source.at(r.start + at);
      if (slice && (slice->size == 0 || slice->size > (r.start + at).left_in_page())) std::abort();
      if (!slice && text(slice.error()).empty()) std::abort();
      (void)source.file_offset(r.start + at);
      (void)memory::read_some(source, r.start + at, std::span<u8>(room));
    }
    source.will_read(r);
    if (reads >= kMostReads) break;
  }
  (void)source.populated();
  (void)source.at(A(~u64{0}));
}

}  // namespace

void fuzz_dump(std::span<const u8> bytes, std::initializer_list<std::string_view> formats) {
  auto file = File::from_bytes({bytes.begin(), bytes.end()}, "fuzz");
  if (file->size() == 0) return;
  // Bombs may take no more disk than this.
  OpenOptions options;
  options.spool.most = 64 << 20;
  Result<DumpFile> dump = fail(Why::unsupported, "");
  if (formats.size() == 0) {
    dump = open_dump(file, options);
  } else {
    for (const Format* f : kFormats) {
      if (std::ranges::find(formats, std::string_view(f->name)) == formats.end() || !f->probe(*file))
        continue;
      dump = f->open(file, options);
      break;
    }
  }
  if (!dump) {
    if (text(dump.error()).find('\n') != std::string::npos) std::abort();
    return;
  }
  if (!dump->physical == !dump->virtual_blocks) std::abort();  // exactly one of the two
  if (dump->physical) read_some_pages(*dump->physical);
  for (const auto& other : dump->alternatives) read_some_pages(*other);
  if (dump->virtual_blocks) read_some_pages(*dump->virtual_blocks);
}

}  // namespace unhang::dump
