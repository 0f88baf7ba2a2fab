// Which format to take, by what the host offers and by what the disk holds.
#pragma once

#include <string>
#include <vector>

#include "app/capture/failure.h"
#include "app/capture/host.h"

namespace unhang::app::capture {

inline constexpr const char* kFormats[] = {"auto",       "elf",     "kdump-snappy", "kdump-lzo",
                                           "kdump-zlib", "win-dmp", "migration"};

// Bytes that the user may write to the folder of a file that need not be there. Errors: no such folder.
Outcome<u64> free_space(const std::string& path);

// The formats to try, best first. `files` of them shall find room in `free` bytes.
// Errors: not enough room; the host has no such format.
Outcome<std::vector<std::string>> choose_formats(const std::string& wanted, const Guest& guest,
                                                 const std::vector<std::string>& offered, u64 free, u64 files,
                                                 const std::string& path);

// "1.5 GiB", "33.0 MiB"
std::string size_text(u64 bytes);

}  // namespace unhang::app::capture
