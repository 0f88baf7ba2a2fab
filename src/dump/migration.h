// A QEMU migration stream as a dump; several forms of file hold one.
#pragma once

#include "dump/dump_file.h"
#include "dump/guest_map.h"

namespace unhang::dump {

// The stream that begins at an offset of a file. Errors as read_migration's.
Result<DumpFile> open_migration(std::shared_ptr<const File> file, u64 offset,
                                const std::vector<DimmPlace>& dimms, const Progress& progress);

}  // namespace unhang::dump
