#include "dump/windows_header.h"

#include "base/format.h"

namespace unhang::dump {

namespace {

// Windows fills what it does not set with the text "PAGE" over and over.
constexpr u32 kUnused = 0x45474150;

u64 used64(u64 v) {
  return v == (u64{kUnused} << 32 | kUnused) ? 0 : v;
}
u32 used32(u32 v) {
  return v == kUnused ? 0 : v;
}

std::vector<PhysRange> read_runs(ByteView b) {
  constexpr u64 kMaxRuns = 42;  // (700 - 16) / 16 in the header's buffer
  const u32 count = b.at<u32>(0x88);
  std::vector<PhysRange> runs;
  if (count == kUnused || count > kMaxRuns) return runs;
  for (u32 i = 0; i < count; i++) {
    const u64 base = b.at<u64>(0x98 + i * 16ULL), pages = b.at<u64>(0xA0 + i * 16ULL);
    // A physical address has at most 52 bits; more is a lie.
    if (base >> 40 != 0 || pages >> 40 != 0) return {};
    runs.push_back({Pfn{base}.address(), pages << kPageShift});
  }
  return runs;
}

}  // namespace

std::string machine_name(u32 machine) {
  switch (machine) {
    case kMachineAmd64:
      return "x64";
    case kMachineArm64:
      return "ARM64";
    case kMachineI386:
      return "x86";
    default:
      return fmt::format("machine {:#x}", machine);
  }
}

Result<WindowsHeader> read_windows_header(ByteView b) {
  if (b.size() < kHeader64Size)
    return fail(Error{.why = Why::bad_file, .detail = "the Windows dump header is truncated"});
  WindowsHeader h;
  h.minor_version = b.at<u32>(0x0C);
  h.directory_table_base = PhysAddr(used64(b.at<u64>(0x10)));
  h.ps_loaded_module_list = VirtAddr(used64(b.at<u64>(0x20)));
  h.ps_active_process_head = VirtAddr(used64(b.at<u64>(0x28)));
  h.machine = b.at<u32>(0x30);
  h.processors = used32(b.at<u32>(0x34));
  h.bug_check_code = used32(b.at<u32>(0x38));
  for (u64 i = 0; i < 4; i++) h.bug_check_parameters[i] = used64(b.at<u64>(0x40 + i * 8));
  h.kd_debugger_data_block = VirtAddr(used64(b.at<u64>(0x80)));
  h.physical_memory = read_runs(b);
  h.dump_type = b.at<u32>(0xF98);
  h.system_time = used64(b.at<u64>(0xFA8));
  h.system_up_time = used64(b.at<u64>(0x1030));
  h.product_type = used32(b.at<u32>(0x1040));
  const auto context = b.sub(0x348, 0x4D0);
  if (context && context->at<u32>(0) != kUnused) {
    const auto s = context->span();
    h.context.assign(s.begin(), s.end());
  }
  return h;
}

}  // namespace unhang::dump
