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

constexpr const char *kHibernation = "a Windows hibernation file: not supported",
                     *kXen = "a domain that Xen saved: not supported",
                     *kDisk = "a disk image, not a memory dump", *kArchive = "an archive: unpack it first",
                     *kCapture = "a network capture, not a memory dump";

// Signatures are those of the formats' own documentation, and of file(1).
constexpr Foreign kForeign[] = {
    {"MDMP"sv, 0, "a user-mode minidump of one process, not a dump of the machine"},
    {"PAGEDUMP"sv, 0, "a crash dump of 32-bit (x86) Windows: only x64 guests are supported"},
    {"AVML"sv, 0, "an AVML image: convert it with `avml-convert` to raw memory first"},
    {"HIBR"sv, 0, kHibernation},
    {"hibr"sv, 0, kHibernation},
    {"WAKE"sv, 0, kHibernation},
    {"wake"sv, 0, kHibernation},
    {"RSTR"sv, 0, kHibernation},
    {"rstr"sv, 0, kHibernation},
    {"LinuxGuestRecord"sv, 0, kXen},
    {"XenSavedDomain"sv, 0, kXen},
    // .vmrs and .vmcx, as dissect.hypervisor reads them.
    {"\x14\x20\x28\x01"sv, 0, "a saved state of Hyper-V: not supported"},
    {"QFI\xfb"sv, 0, "a qcow2 disk image, not a memory dump"},
    {"KDMV"sv, 0, "a VMware disk image, not a memory dump: the memory is in the .vmem file"},
    {"# Disk Descriptor"sv, 0, "a VMware disk image, not a memory dump: the memory is in the .vmem file"},
    {"vhdxfile"sv, 0, kDisk},
    {"conectix"sv, 0, kDisk},
    {"<<< "sv, 0, kDisk},
    {"EVF\x09\x0d\x0a\xff\x00"sv, 0, kDisk},
    {"EFI PART"sv, 512, kDisk},
    {"NTFS    "sv, 3, kDisk},
    {"\x02\x21\x4c\x18"sv, 0, "an lz4 file of the legacy form: unpack it with `lz4 -d` first"},
    {"PK\x03\x04"sv, 0, kArchive},
    {"7z\xbc\xaf\x27\x1c"sv, 0, kArchive},
    {"Rar!\x1a\x07"sv, 0, kArchive},
    {"MSCF"sv, 0, kArchive},
    {"ustar"sv, 257, kArchive},
    {"\xd4\xc3\xb2\xa1"sv, 0, kCapture},
    {"\xa1\xb2\xc3\xd4"sv, 0, kCapture},
    {"\x0a\x0d\x0d\x0a"sv, 0, kCapture},
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
