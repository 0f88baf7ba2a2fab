// Plain `virsh dump` (without --memory-only) and Proxmox RAM states: a migration stream and nothing before
// it.
#include "dump/migration.h"

namespace unhang::dump {

namespace {

bool probe(const File& file) {
  return file.bytes().starts_with("QEVM");
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions& options) {
  return open_migration(std::move(file), 0, {}, options.progress);
}

}  // namespace

extern const Format qemu_migration_format;
const Format qemu_migration_format{.name = "qemu-migration", .order = 15, .probe = probe, .open = open};

}  // namespace unhang::dump
