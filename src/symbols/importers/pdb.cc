// PDB files, through the helper program unhang-import-pdb (src/import-pdb says why it is one).
#include <cstdlib>

#include "base/process.h"
#include "symbols/importer.h"

namespace unhang::symbols {

namespace {

constexpr u64 kMostBytes = u64{256} << 20;

bool probe(const File& f) {
  return f.bytes().starts_with("Microsoft C/C++ MSF 7.00");
}

Result<std::vector<u8>> import(std::shared_ptr<const File> file) {
  // Tests run from another directory than the helper's.
  const char* chosen = std::getenv("UNHANG_IMPORT_PDB");
  const std::string helper = chosen != nullptr ? chosen : program_directory() + "/unhang-import-pdb";
  ProcessResult r = TRY(run_process({helper, file->path()}, kMostBytes));
  if (r.status != 0)
    return fail(Error{.why = Why::bad_file, .type = "PDB", .detail = "damaged or of an unknown kind"});
  return std::move(r.output);
}

}  // namespace

extern const Importer pdb_importer;
const Importer pdb_importer{.name = "PDB", .probe = probe, .import = import};

}  // namespace unhang::symbols
