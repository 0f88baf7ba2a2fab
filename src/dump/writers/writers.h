// What can be written: Windows crash dumps of type 1 (complete: runs of pages) and type 5 (bitmap), ELF cores
// as QEMU writes them, raw memory.
#pragma once

#include <string>

#include "dump/dump_file.h"
#include "dump/writers/copy_memory.h"

namespace unhang::dump {

// DUMP_HEADER64 but for what follows from the pages (FORMATS 3.1).
struct CrashHeader {
  u32 build = 0;
  PhysAddr directory_table_base{};
  VirtAddr pfn_database{}, ps_loaded_module_list{}, ps_active_process_head{}, kd_debugger_data_block{};
  u32 processors = 0;
  u32 bug_check_code = 0;
  std::array<u64, 4> bug_check_parameters{};
  std::vector<u8> context;  // CONTEXT and what follows it, at most 3000 bytes
  u32 exception_code = 0;
  VirtAddr exception_address{};
  u64 system_time = 0, up_time = 0;  // 100 ns
  u32 product_type = 0, suite_mask = 0;
  // Where Windows says that RAM is; empty: the pages that are written.
  std::vector<PhysRange> physical_memory;
};

enum class CrashType : u32 { automatic = 0, complete = 1, bitmap = 5 };

struct Written {
  std::string what;  // "Windows crash dump, type 1"
  u64 file_size = 0;
  u64 pages = 0;
  Copied copied;
};

// No machine has memory there: the ranges of a damaged file would make outputs of petabytes.
inline constexpr PhysAddr kEndOfMemory{u64{1} << 46};
inline Error beyond_memory() {
  return {
      .why = Why::unsupported,
      .detail = "the dump has memory beyond 64 TiB, where no machine has any: its list of ranges is damaged"};
}

// ranges: sorted, disjoint, whole pages, below kEndOfMemory. automatic: complete with up to 42 runs, else
// bitmap. Errors: io, limit, unsupported (complete asked for with more runs than its header holds).
Result<Written> write_crash_dump(const std::string& path, const PageSource<PhysAddr>& source,
                                 std::span<const PhysRange> ranges, const CrashHeader& header,
                                 std::span<const Patch> patches, CrashType type, const Progress& progress);

// An ELF core as QEMU writes it, with a QEMU note for each processor.
Result<Written> write_elf_core(const std::string& path, const PageSource<PhysAddr>& source,
                               std::span<const PhysRange> ranges, std::span<const CpuState> cpus,
                               const Progress& progress);

// Memory at its own addresses, as pmemsave writes it; a sparse file.
Result<Written> write_raw(const std::string& path, const PageSource<PhysAddr>& source,
                          std::span<const PhysRange> ranges, const Progress& progress);

}  // namespace unhang::dump
