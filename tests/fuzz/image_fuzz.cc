// PE images: headers, exports, debug directory, .pdata, unwind information; and an unwinding over them.
#include <cstdlib>

#include "fuzz.h"
#include "image/image.h"
#include "image/unwind_info.h"
#include "stack/unwinder.h"

using namespace unhang;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::span<const u8> bytes(data, size);
  const auto file = image::FileImage::open(bytes);
  if (!file) return 0;
  const auto opened = image::Image::open(*file, image::Image::Accept::x64_or_x86);
  if (!opened) return 0;
  const image::Image& image = *opened;
  (void)image.pdb_id();
  (void)image.export_name();
  int looked = 0;
  for (const image::Export& e : image.exports()) {
    if (++looked > 64) break;
    (void)image.function_at(e.rva);
  }
  for (const image::Section& s : image.sections())
    for (u64 at = 0; at < std::min<u64>(s.size, 4096); at += 64)
      if (const auto f = image.function_at(s.rva + at); f && *f)
        (void)image::read_unwind_info(image.bytes(), Rva((*f)->unwind));
  constexpr u64 kBase = 0x10000000;
  const Memory stack(bytes);
  const stack::FindImage find = [&](VirtAddr va) -> std::optional<stack::ImageAt> {
    if (va.value() < kBase || va.value() - kBase > image.size()) return std::nullopt;
    return stack::ImageAt{&image, VirtAddr(kBase)};
  };
  for (const image::Section& s : image.sections()) {
    stack::Registers r;
    r.rip = kBase + s.rva.value() + 5;
    const auto done = stack::unwind(r, stack, find, {.stack_ends = {VirtAddr(size)}});
    if (done.frames.size() > 512) std::abort();
    if (++looked > 80) break;
  }
  return 0;
}
