// Target: one opened dump with what is known of the Windows in it. Everything above layer 4 starts here.
//
// Two targets of different builds can be open at once: nothing about a target is kept in the process. A
// target is for one thread at a time; its dump's physical pages are thread-safe.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/confidence.h"
#include "dump/dump_file.h"
#include "memory/address_space.h"
#include "nt/bootstrap.h"
#include "nt/kdbg.h"
#include "nt/layouts.h"
#include "nt/module.h"
#include "nt/object.h"
#include "symbols/store.h"

namespace unhang::nt {

struct TargetOptions {
  std::vector<std::string> symbol_paths;
  std::string cache;                     // directory of imported layouts; empty: none
  std::vector<std::string> image_paths;  // folders of image files, for pages that the dump does not have
  bool force_symbols = false;            // use a symbol file although its GUID is another kernel's
  dump::OpenOptions dump;                // progress, and where compressed dumps are unpacked
};

// One processor as Windows numbers it, and the dump's registers for it.
struct Cpu {
  u32 number = 0;
  VirtAddr kpcr{};
  VirtAddr kprcb{};
  VirtAddr current_thread{};
  VirtAddr next_thread{};
  VirtAddr idle_thread{};
  std::optional<dump::CpuState> state;
  // Where the registers come from: "QEMU note 1", "KPRCB.Context", "dump header"; empty: none.
  std::string state_from;
  bool state_in_memory = false;  // they are what its CONTEXT in the dump's memory says
  bool damaged = false;          // its KPCR is none: what lies at kprcb is something else
};

// A rung of a ladder that worked, for `info` and every report.
struct Known {
  std::string what;
  std::string how;
};

// One read of a member, recorded for --why.
struct ReadRecord {
  const char* type = nullptr;
  const char* member = nullptr;
  VirtAddr object{};
  VirtAddr va{};
  u32 size = 0;
};

class Target {
 public:
  // Errors: those of opening the dump, unsupported (no Windows in it), layout_mismatch (wrong symbols).
  static Result<std::unique_ptr<Target>> open(const std::string& path, const TargetOptions& options);
  static Result<std::unique_ptr<Target>> open(dump::DumpFile dump, const TargetOptions& options);
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  const dump::DumpFile& dump() const { return dump_; }
  // Kernel virtual memory: page tables, or a triage dump's blocks.
  const Source<VirtAddr>& kernel() const { return *kernel_; }
  // Null for dumps without physical memory.
  const memory::AddressSpace* paging() const { return paging_.get(); }
  const dump::PageSource<PhysAddr>* physical() const { return physical_; }
  // The address space of a process by its DirectoryTableBase; the kernel's when there are no page tables.
  const Source<VirtAddr>& space(PhysAddr dtb) const;

  const KernelPlace& place() const { return place_; }
  VirtAddr kernel_base() const { return place_.base; }
  const Module& nt() const { return *nt_; }
  const ModuleList& modules() const { return modules_; }
  const std::optional<Kdbg>& kdbg() const { return kdbg_; }
  const Layouts& layouts() const { return layouts_; }
  const std::vector<Cpu>& cpus() const { return cpus_; }
  // Build number of Windows, 0 unknown; "7601.24540.amd64fre..." when NtBuildLab can be read.
  u32 build() const { return build_; }
  const std::string& build_lab() const { return build_lab_; }
  // One phrase on where types come from: "symbols (ISF, file ...)", "built-in layout 10.0.19041.804 (derived,
  // 946 of 946 checks)".
  std::string layout_source() const;
  const std::vector<Known>& known() const { return known_; }
  const std::vector<Gap>& gaps() const { return gaps_; }

  // Binding of a member line, made on first use. Errors: no_member, layout_mismatch.
  Result<Bound> bind(const MemberLine& member) const;

  // Address of a kernel variable: from symbols, exports or KDBG. Errors: no_symbol.
  Result<VirtAddr> symbol(const char* name) const;
  // The pointer that a kernel variable holds. Errors: no_symbol, those of reading.
  Result<VirtAddr> pointer_at(const char* name) const;
  // "nt!KiSwapContext+0x7a", "Ntfs+0xcc09"; empty when the address is in no module.
  std::string symbolize(VirtAddr va) const;
  // The module, with its symbols looked up.
  const Module* module_at(VirtAddr va) const;

  // UTF-16 text of a UNICODE_STRING as UTF-8. Errors: those of reading, implausible (odd or huge length).
  Result<std::string> read_string(const UnicodeString& string, const Source<VirtAddr>& space) const;
  Result<std::string> read_string(const UnicodeString& string) const { return read_string(string, kernel()); }

  // Symbols of a module that is not the kernel's (a process's image), from the same store.
  void look_up_symbols(Module& module) const;
  // Opens a module's image, once; files of the image path that are refused become gaps.
  void open_image(Module& module, const Source<VirtAddr>& space) const;

  // While set, every member read is added: see diagnose's --why.
  void record_reads(std::vector<ReadRecord>* records) const { records_ = records; }
  void record(const MemberLine& member, VirtAddr object, const Bound& bound) const;

 private:
  explicit Target(dump::DumpFile dump, const TargetOptions& options);
  Result<void> find_windows();
  Result<void> load_kernel(const TargetOptions& options);
  bool addresses_agree(const symbols::Layout& layout) const;
  void choose_layouts();
  void take_over(const struct Inference& found, bool& sure);
  void load_modules();
  void map_cpus();
  void read_version();
  void note(std::string what, std::string how) { known_.push_back({std::move(what), std::move(how)}); }

  dump::DumpFile dump_;
  dump::PageSource<PhysAddr>* physical_ = nullptr;
  KernelPlace place_;
  std::unique_ptr<memory::AddressSpace> paging_;
  const Source<VirtAddr>* kernel_ = nullptr;
  mutable std::map<PhysAddr, std::unique_ptr<memory::AddressSpace>> spaces_;
  mutable symbols::Store store_;
  mutable image::ImagePath image_path_;
  ModuleList modules_;
  Module* nt_ = nullptr;
  std::optional<Kdbg> kdbg_;
  Layouts layouts_;
  std::vector<Cpu> cpus_;
  u32 build_ = 0;
  std::string build_lab_;
  std::vector<Known> known_;
  mutable std::vector<Gap> gaps_;
  mutable std::vector<std::optional<Result<Bound>>> bindings_;
  mutable std::vector<ReadRecord>* records_ = nullptr;
};

}  // namespace unhang::nt
