// Layouts in a tar file (POSIX ustar), to carry symbols to a machine without a network.
#pragma once

#include <string>
#include <vector>

#include "symbols/store.h"

namespace unhang::symbols {

bool is_archive(ByteView bytes);

// Writes the layout files as GUIDAGE.layout; they are checked before. Errors: io. `left_out` gets those that
// are no layouts.
Result<u64> pack_layouts(const std::vector<std::string>& files, const std::string& out,
                         std::vector<Gap>& left_out);

struct Unpacked {
  std::vector<image::PdbId> layouts;
  std::vector<Gap> left_out;  // members that are no layouts, or not those that their names say
};
// Puts the layouts of an archive into the store's cache. Names in it decide nothing: a member counts when it
// is called GUIDAGE.layout and is the layout of that GUID and age. Errors: bad_file, io.
Result<Unpacked> unpack_layouts(ByteView archive, Store& store);

}  // namespace unhang::symbols
