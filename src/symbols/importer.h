// Importers turn a symbol file into the bytes of a layout. One file a format under importers/.
#pragma once

#include <memory>

#include "base/error.h"
#include "base/file.h"

namespace unhang::symbols {

struct Importer {
  const char* name;
  bool (*probe)(const File& file);
  // The bytes of a layout file. Errors: bad_file, io (a helper program is missing), limit (too large).
  Result<std::vector<u8>> (*import)(std::shared_ptr<const File> file);
};

// Imports a file of any known format. Errors: unsupported (no importer knows it), those of the importer.
Result<std::vector<u8>> import_symbols(std::shared_ptr<const File> file);

}  // namespace unhang::symbols
