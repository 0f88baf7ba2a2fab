#include "synth/code_image.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "synth/image.h"

namespace unhang::synth {

namespace {

u32 aligned(size_t size, u32 to) {
  return (static_cast<u32>(size) + to - 1) & ~(to - 1);
}

}  // namespace

u32 CodeImage::next_code() const {
  return kText + aligned(code_.size() + 16, 16);
}
u32 CodeImage::next_unwind() const {
  return kUnwind + aligned(unwind_.size(), 4);
}

u32 CodeImage::add_code(const std::vector<u8>& bytes) {
  const u32 at = next_code();
  code_.resize(at - kText, 0xcc);
  code_.insert(code_.end(), bytes.begin(), bytes.end());
  UNHANG_CHECK(code_.size() + 32 <= kTextSize);
  return at;
}

u32 CodeImage::add_unwind(const std::vector<u8>& bytes) {
  const u32 at = next_unwind();
  unwind_.resize(at - kUnwind);
  unwind_.insert(unwind_.end(), bytes.begin(), bytes.end());
  UNHANG_CHECK(unwind_.size() <= kUnwindSize);
  return at;
}

void CodeImage::add_function(u32 begin, u32 end, u32 unwind) {
  entries_.push_back({begin, end, unwind});
}

std::vector<u8> CodeImage::build() const {
  std::vector<u8> b(kSize);
  const SectionPlan sections[] = {{".text", kText, kTextSize, kCodeSection},
                                  {".rdata", kUnwind, kUnwindSize, kReadOnlySection},
                                  {".pdata", kPdata, kPdataSize, kReadOnlySection}};
  put_headers(b, sections);
  std::memset(b.data() + kText, 0xcc, kTextSize);
  std::copy(code_.begin(), code_.end(), b.begin() + kText);
  std::copy(unwind_.begin(), unwind_.end(), b.begin() + kUnwind);
  std::vector<Entry> sorted = entries_;
  std::sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& c) { return a.begin < c.begin; });
  UNHANG_CHECK(sorted.size() * sizeof(Entry) <= kPdataSize);
  std::memcpy(b.data() + kPdata, sorted.data(), sorted.size() * sizeof(Entry));
  put_directory(b, 3, kPdata, static_cast<u32>(sorted.size() * sizeof(Entry)));
  return b;
}

std::vector<u8> UnwindBytes::build() const {
  UNHANG_CHECK(codes.size() % 2 == 0);
  std::vector<u8> b{static_cast<u8>(version | flags << 3), prolog_size, static_cast<u8>(codes.size() / 2),
                    static_cast<u8>(frame_register | frame_offset << 4)};
  b.insert(b.end(), codes.begin(), codes.end());
  b.resize((b.size() + 3) & ~size_t{3});
  if ((flags & kChained) != 0)
    b.insert(b.end(), reinterpret_cast<const u8*>(chained), reinterpret_cast<const u8*>(chained) + 12);
  return b;
}

}  // namespace unhang::synth
