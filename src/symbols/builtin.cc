#include "symbols/builtin.h"

#include "base/check.h"
#include "symbols/layout_format.h"

// What make-layouts wrote, see src/CMakeLists.txt: whole layouts one after the other at multiples of 8
// bytes, oldest build first.
extern "C" const unhang::u8 unhang_layouts_begin[];
extern "C" const unhang::u8 unhang_layouts_end[];

namespace unhang::symbols {

const std::vector<std::shared_ptr<const Layout>>& builtin_layouts() {
  static const auto all = [] {
    std::vector<std::shared_ptr<const Layout>> layouts;
    const ByteView blob(unhang_layouts_begin, static_cast<size_t>(unhang_layouts_end - unhang_layouts_begin));
    for (u64 at = 0; at < blob.size();) {
      const u64 size = blob.at<FileHeader>(at).size;
      const auto bytes = blob.sub(at, size);
      UNHANG_CHECK(bytes.has_value());
      const auto layout = Layout::open(File::from_static(*bytes, "built-in layout"));
      UNHANG_CHECK(layout.has_value());
      layouts.push_back(*layout);
      at += (size + 7) & ~u64{7};
    }
    return layouts;
  }();
  return all;
}

std::shared_ptr<const Layout> builtin_layout(std::string_view build) {
  for (const auto& layout : builtin_layouts())
    if (layout->build() == build) return layout;
  return nullptr;
}

}  // namespace unhang::symbols
