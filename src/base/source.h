// Source: anything that bytes can be had from by address - physical pages, an address space, an image.
#pragma once

#include <memory>

#include "base/error.h"
#include "base/types.h"

namespace unhang {

// Bytes that a source lends out. `keep` holds a decompressed page alive; it is empty for mapped files.
struct Slice {
  const u8* data = nullptr;
  size_t size = 0;
  std::shared_ptr<const void> keep;
};

template <class A>
class Source {
 public:
  virtual ~Source() = default;
  // The bytes at an address: at least one, at most to the end of its page; fewer where a file ends inside a
  // page or a segment is not page-aligned. Errors say why there are none. memory/read.h is the way to read
  // more than a page.
  virtual Result<Slice> at(A address) const = 0;
};

}  // namespace unhang
