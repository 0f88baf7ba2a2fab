// Files that are known but not readable here. Each gets its name and a way out, because "unknown format" at
// 3 a.m. helps nobody.
#include <string_view>

#include "dump/dump_file.h"

namespace unhang::dump {

namespace {

struct Foreign {
  std::string_view signature;
  u64 offset;
  const char* sentence;
};

using namespace std::string_view_literals;

constexpr Foreign kForeign[] = {
    {"MDMP"sv, 0, "a user-mode minidump of one process, not a dump of the machine"},
    {"PAGEDUMP"sv, 0, "a crash dump of 32-bit (x86) Windows: only x64 guests are supported"},
    {"AVML"sv, 0, "an AVML image: convert it with `avml-convert` to raw memory first"},
    {"HIBR"sv, 0, "a Windows hibernation file: not supported"},
    {"hibr"sv, 0, "a Windows hibernation file: not supported"},
    {"QFI\xfb"sv, 0, "a qcow2 disk image, not a memory dump"},
    {"MZ"sv, 0, "a Windows program, not a memory dump"},
    {"Microsoft C/C++ MSF 7.00"sv, 0, "a PDB file: give it with --symbols"},
};

const Foreign* find(const File& file) {
  for (const Foreign& f : kForeign)
    if (file.bytes().from(f.offset).starts_with(f.signature)) return &f;
  return nullptr;
}

bool probe(const File& file) {
  return find(file) != nullptr;
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions&) {
  return fail(Error{.why = Why::unsupported, .detail = find(*file)->sentence});
}

}  // namespace

extern const Format foreign_format;
const Format foreign_format{.name = "foreign", .order = 900, .probe = probe, .open = open};

}  // namespace unhang::dump
