#include "dump/migration.h"

#include "base/format.h"
#include "dump/migration_cpu.h"
#include "dump/migration_source.h"

namespace unhang::dump {

Result<DumpFile> open_migration(std::shared_ptr<const File> file, u64 offset,
                                const std::vector<DimmPlace>& dimms, const Progress& progress) {
  const auto stream =
      std::make_shared<const MigrationStream>(TRY(read_migration(std::move(file), offset, progress)));
  const std::string& machine = stream->machine;
  if (machine.starts_with("virt") || machine.starts_with("pseries") || machine.starts_with("s390"))
    return fail(Error{.why = Why::unsupported,
                      .type = "QEMU migration stream",
                      .detail = machine.starts_with("virt")
                                    ? "unsupported machine ARM64: only x64 Windows guests are supported"
                                    : "unsupported machine: only x64 Windows guests are supported"});
  GuestMaps maps = TRY(guest_maps(*stream, dimms));
  const Devices devices = read_devices(*stream);

  DumpFile dump;
  dump.gaps = stream->gaps;
  dump.gaps.insert(dump.gaps.end(), maps.gaps.begin(), maps.gaps.end());
  dump.cpus = read_cpus(devices);
  if (stream->devices != 0 && dump.cpus.empty())
    dump.gaps.push_back({"CPU registers", hex(stream->devices),
                         "the stream is truncated or its CPU sections are of an unknown form"});
  else if (!dump.cpus.empty() && !devices.described)
    dump.gaps.push_back(
        {"CPU registers", hex(stream->devices),
         "the stream does not describe itself (truncated?): read by the layout of cpu version 12"});
  if (!dump.cpus.empty() && !dump.cpus[0].long_mode())
    dump.gaps.push_back({"CPU 0", "", "was not in long mode when the dump was taken"});

  for (GuestMap& map : maps.maps) {
    auto source = std::make_unique<MigrationSource>(stream, std::move(map));
    if (source->ranges().empty()) continue;
    if (!dump.physical)
      dump.physical = std::move(source);
    else
      dump.alternatives.push_back(std::move(source));
  }
  if (!dump.physical)
    return fail(Error{.why = Why::bad_file,
                      .type = "QEMU migration stream",
                      .detail = "truncated before any memory of the guest"});
  u64 size = 0;
  for (const PhysRange& r : dump.physical->ranges()) size += r.size;
  dump.description =
      fmt::format("QEMU migration stream of machine {}, {} CPUs, {} MiB of RAM",
                  stream->machine.empty() ? "(not named)" : stream->machine, dump.cpus.size(), size >> 20);
  return dump;
}

}  // namespace unhang::dump
