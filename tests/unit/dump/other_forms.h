// The machine of an ELF core in forms that no writer of the program makes: built here, byte by byte.
#pragma once

#include <vector>

#include "dump/dump_file.h"

namespace unhang::dump {

// A kdump-compressed file (zlib) as makedumpfile -R leaves it: FORMATS 1.3. elf: the file that d was opened from.
std::vector<u8> kdump_of(const File& elf, const DumpFile& d);
// The same as QEMU writes it to a pipe; the segments are not in order.
std::vector<u8> flattened_of(const std::vector<u8>& kdump);
// A migration stream of one RAM block, that does not describe its devices: FORMATS 2.3.
std::vector<u8> migration_of(const DumpFile& d);

}  // namespace unhang::dump
