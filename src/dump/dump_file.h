// One opened dump: what its format says, nothing that needs Windows knowledge.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "dump/container.h"
#include "dump/cpu_state.h"
#include "dump/pages.h"

namespace unhang::dump {

// What a Windows crash dump header (or the copy of it in a VMCOREINFO note) tells about the system.
struct WindowsHeader {
  u32 minor_version = 0;  // build number
  PhysAddr directory_table_base{};
  VirtAddr ps_loaded_module_list{};
  VirtAddr ps_active_process_head{};
  VirtAddr kd_debugger_data_block{};
  u32 machine = 0;
  u32 processors = 0;
  u32 bug_check_code = 0;
  u64 bug_check_parameters[4] = {};
  u32 dump_type = 0;
  u64 system_time = 0;     // 100 ns since 1601, 0 unknown
  u64 system_up_time = 0;  // 100 ns
  u32 product_type = 0;
  // Where Windows says that RAM is; empty when the header does not say.
  std::vector<PhysRange> physical_memory;
  // CONTEXT of the processor that wrote the dump, as raw bytes.
  std::vector<u8> context;
};

// A module that a triage dump lists by itself (its loader list is not whole).
struct ListedModule {
  std::string name;
  VirtAddr base{};
  u64 size = 0;
  u32 time_stamp = 0;
  u32 checksum = 0;
};

// The parts of a kernel triage dump (type 4) that its header points to.
struct TriageParts {
  VirtAddr current_thread{};
  VirtAddr current_process{};
  VirtAddr prcb{};
  std::vector<ListedModule> modules;
  // Names of the modules that Windows thought to blame; may be empty.
  std::string broken_driver;
};

struct DumpFile {
  std::shared_ptr<const File> file;
  std::string format;       // "elf-core", "windows-crash-dump" ...
  std::string description;  // one line for `info`: "ELF core written by QEMU 7.2 or later, 2 CPUs"
  // Exactly one of the two is set.
  std::unique_ptr<PageSource<PhysAddr>> physical;
  std::unique_ptr<PageSource<VirtAddr>> virtual_blocks;
  // Other ways to read the same file (raw memory with or without the hole below 4 GiB).
  std::vector<std::unique_ptr<PageSource<PhysAddr>>> alternatives;
  std::vector<CpuState> cpus;
  std::optional<WindowsHeader> header;
  // Bytes of KDDEBUGGER_DATA64 when the dump carries a copy in clear outside of guest memory.
  std::vector<u8> kdbg;
  std::optional<TriageParts> triage;
  // Set when the dump itself says that the guest is not Windows ("OSRELEASE=..." in VMCOREINFO).
  std::string other_system;
  std::vector<Gap> gaps;
};

struct Format {
  const char* name;
  // Tried in ascending order; raw memory, which has no signature, is last.
  int order;
  // Whether the file begins like this format. Cheap; looks at the first few kilobytes.
  bool (*probe)(const File& file);
  // Errors: bad_file or unsupported, with one sentence that says what is wrong with it.
  Result<DumpFile> (*open)(std::shared_ptr<const File> file, const OpenOptions& options);
};

// Opens a dump of any form, also compressed; "-" is standard input. Errors: io, bad_file, unsupported, limit.
Result<DumpFile> open_dump(const std::string& path, const OpenOptions& options = {});
Result<DumpFile> open_dump(std::shared_ptr<const File> file, const OpenOptions& options = {});

}  // namespace unhang::dump
