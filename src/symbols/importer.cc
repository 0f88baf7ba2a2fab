#include "symbols/importer.h"

#include "importers.plugs.h"

namespace unhang::symbols {

Result<std::vector<u8>> import_symbols(std::shared_ptr<const File> file) {
  for (const Importer* importer : kImporters)
    if (importer->probe(*file)) return importer->import(file);
  return fail(Error{.why = Why::unsupported, .detail = "neither a PDB nor ISF JSON"});
}

}  // namespace unhang::symbols
