// Real captures of one tiny guest in every form that a host writes, and what is true of them all. They lie
// beside the project; a test without them is skipped, and says so.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/file.h"
#include "dump/dump_file.h"

namespace unhang::dump {

// Path of an unpacked capture, which lives until the tests end; empty when it is not there.
std::string capture_path(const std::string& name);
std::shared_ptr<const File> capture(const std::string& name);

// The first `size` bytes of a file as a file of its own.
std::shared_ptr<const File> cut(const File& file, u64 size);
// The same with bytes replaced.
std::shared_ptr<const File> patched(const File& file, u64 offset, const void* data, size_t size);

// Registers of the tiny guest's two CPUs, as its README tells them. rich: with what only a migration stream
// has.
void expect_registers(const DumpFile& dump, bool rich);
// RAM below 128 MiB is bit-identical to the ELF core's; pages that one of them has not are counted. The
// captures are of three boots (qmp-*, the two *gzip*, all others), and 13 pages of the firmware differ
// between boots: clock ticks, ACPI tables, BIOS shadow. There the truth of the others' boot is the Windows
// crash dump, and the two gzip captures must agree.
struct Compared {
  u64 same = 0, other_boot = 0, missing = 0, extra = 0;
};
Compared expect_same_memory(const DumpFile& dump);

// Opening a file, damaged in whatever way, gives an error with a sentence or a dump whose pages can be read
// or say why not. Returns whether it opened.
bool survives(const std::shared_ptr<const File>& file, const std::string& what);

}  // namespace unhang::dump

#define NEED_CAPTURE(name)                        \
  if (::unhang::dump::capture_path(name).empty()) \
  GTEST_SKIP() << "no capture " << (name) << " beside the project"
