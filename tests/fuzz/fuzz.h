// What fuzz targets share.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include "dump/dump_file.h"

namespace unhang::dump {

// What every target of a dump format is: opens the bytes as a dump and reads a bounded number of its pages, when
// they begin like one of the formats named; all formats when none is.
void fuzz_dump(std::span<const u8> bytes, std::initializer_list<std::string_view> formats);

}  // namespace unhang::dump

namespace unhang {

// Virtual memory from address 0 on that is the input's bytes.
class Memory final : public Source<VirtAddr> {
 public:
  explicit Memory(std::span<const u8> bytes) : bytes_(bytes) {}
  Result<Slice> at(VirtAddr va) const override {
    if (va.value() >= bytes_.size()) return fail(Error{.why = Why::not_present, .va = va});
    return Slice{
        bytes_.data() + va.value(), std::min<u64>(va.left_in_page(), bytes_.size() - va.value()), {}};
  }

 private:
  std::span<const u8> bytes_;
};

}  // namespace unhang

// FUZZ_FORMATS("kdump"): a target that opens only those.
#define FUZZ_FORMATS(...)                                                              \
  extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) { \
    ::unhang::dump::fuzz_dump({data, size}, {__VA_ARGS__});                            \
    return 0;                                                                          \
  }
