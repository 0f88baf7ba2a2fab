#include "dump/dump_file.h"

#include <algorithm>
#include <vector>

#include "formats.plugs.h"

namespace unhang::dump {

Result<DumpFile> open_dump(std::shared_ptr<const File> file) {
  std::vector<const Format*> formats(std::begin(kFormats), std::end(kFormats));
  std::stable_sort(formats.begin(), formats.end(),
                   [](const Format* a, const Format* b) { return a->order < b->order; });
  for (const Format* format : formats) {
    if (!format->probe(*file)) continue;
    Result<DumpFile> dump = format->open(file);
    if (dump) {
      dump->file = file;
      dump->format = format->name;
    }
    return dump;
  }
  return fail(Error{.why = Why::unsupported, .detail = "not a memory dump in any form that unhang knows"});
}

Result<DumpFile> open_dump(const std::string& path) { return open_dump(TRY(File::open(path))); }

}  // namespace unhang::dump
