#include "nt/target.h"

#include <algorithm>

#include "base/check.h"
#include "base/format.h"
#include "base/utf.h"
#include "memory/read.h"
#include "nt/layout_choice.h"
#include "nt/layout_inference.h"
#include "nt/objects/cpu.h"
#include "nt/objects/loader.h"
#include "nt/objects/process.h"
#include "nt/walk.h"

namespace unhang::nt {

namespace {
// Objects that must speak for a member, and members that must be proved, before a layout is trusted.
constexpr u32 kEnoughProofs = 3;
constexpr int kEnoughMembers = 6;
}  // namespace

Target::Target(dump::DumpFile dump, const TargetOptions& options)
    : dump_(std::move(dump)), store_(options.symbol_paths, options.cache), image_path_(options.image_paths) {
  bindings_.resize(MemberLine::all().size());
}

Result<std::unique_ptr<Target>> Target::open(const std::string& path, const TargetOptions& options) {
  return open(TRY(dump::open_dump(path, options.dump)), options);
}

Result<std::unique_ptr<Target>> Target::open(dump::DumpFile dump, const TargetOptions& options) {
  std::unique_ptr<Target> target(new Target(std::move(dump), options));
  target->gaps_ = target->dump_.gaps;
  TRY_VOID(target->find_windows());
  TRY_VOID(target->load_kernel(options));
  target->choose_layouts();
  target->load_modules();
  target->map_cpus();
  target->read_version();
  return target;
}

Result<void> Target::find_windows() {
  if (dump_.virtual_blocks) {
    kernel_ = dump_.virtual_blocks.get();
    const ByteView kdbg(dump_.kdbg.data(), dump_.kdbg.size());
    place_.base = VirtAddr(kdbg.at<u64>(Kdbg::kKernBase));
    place_.base_how = "KDBG in the dump";
    if (!is_kernel(place_.base) && dump_.triage && !dump_.triage->modules.empty()) {
      place_.base = dump_.triage->modules.front().base;
      place_.base_how = "first module that the dump lists";
    }
    if (!is_kernel(place_.base))
      return fail(
          Error{.why = Why::bad_file, .type = "Windows triage dump", .detail = "it does not name a kernel"});
    note("kernel base", place_.base_how);
    return {};
  }
  std::vector<dump::PageSource<PhysAddr>*> readings{dump_.physical.get()};
  for (const auto& other : dump_.alternatives) readings.push_back(other.get());
  std::optional<Error> first_error;
  for (dump::PageSource<PhysAddr>* reading : readings) {
    const auto place = find_kernel(dump_, *reading);
    if (!place) {
      if (!first_error) first_error = place.error();
      continue;
    }
    physical_ = reading;
    place_ = *place;
    paging_ = std::make_unique<memory::AddressSpace>(
        *physical_, place_.dtb,
        memory::PagingRules{.levels = place_.levels, .end_of_ram = physical_->ranges().back().end()});
    kernel_ = paging_.get();
    note("page tables", place_.dtb_how);
    note("kernel base", place_.base_how);
    if (reading != readings.front())
      note("memory map", "the file has no hole below 4 GiB; RAM above it was moved there");
    return {};
  }
  return fail(*first_error);
}

Result<void> Target::load_kernel(const TargetOptions& options) {
  auto module = std::make_unique<Module>("ntoskrnl.exe", "", place_.base, 0);
  module->set_name("nt");
  open_image(*module, kernel());
  nt_ = module.get();
  modules_.add(std::move(module));
  if (nt_->image() == nullptr) gaps_.push_back({"kernel image", hex(place_.base), text(*nt_->image_error())});

  std::optional<symbols::Found> found;
  std::string how = "PDB GUID of the image";
  if (nt_->pdb()) {
    found = store_.find(*nt_->pdb());
    if (!found)
      if (const auto wrong = store_.mismatch(*nt_->pdb())) {
        if (!options.force_symbols)
          return fail(Error{.why = Why::layout_mismatch,
                            .detail = "the symbol file is for another kernel (its GUID differs); "
                                      "--force-symbols uses it all the same"});
        found = TRY(store_.import(wrong->first));
        how = "forced: the GUID is another kernel's";
      }
  } else {
    // The page with the GUID is missing. Addresses that the dump states identify the build as well: three
    // lists at three places is no coincidence.
    kdbg_ = find_kdbg(dump_, kernel(), *nt_);
    found = store_.find_if("ntkrnlmp.pdb",
                           [&](const symbols::Layout& layout) { return addresses_agree(layout); });
    how = "addresses of the kernel's lists that the dump states";
  }
  if (found) {
    nt_->set_symbols(found->layout, found->where);
    layouts_.set_exact(found->layout, how.starts_with("forced") ? Confidence::guess : Confidence::exact);
    note("symbols", fmt::format("{} ({}), chosen by {}", found->where, found->layout->origin(), how));
  } else {
    note("symbols", "none for this kernel: names from exports, addresses from KDBG and exports");
  }
  for (const Gap& g : store_.complaints()) gaps_.push_back(g);
  if (!kdbg_ && (nt_->pdb() || found)) kdbg_ = find_kdbg(dump_, kernel(), *nt_);
  if (kdbg_)
    note("KDBG", kdbg_->how());
  else
    gaps_.push_back({"KDBG", "", "not found: its page is missing, or it is damaged"});
  return {};
}

bool Target::addresses_agree(const symbols::Layout& layout) const {
  const ByteView kdbg = kdbg_ ? kdbg_->view() : ByteView(dump_.kdbg.data(), dump_.kdbg.size());
  const auto header = dump_.header.value_or(dump::WindowsHeader());
  const auto either = [](VirtAddr a, u64 b) { return a.is_null() ? b : a.value(); };
  const std::pair<const char*, u64> stated[] = {
      {"PsLoadedModuleList", either(header.ps_loaded_module_list, kdbg.at<u64>(Kdbg::kPsLoadedModuleList))},
      {"PsActiveProcessHead",
       either(header.ps_active_process_head, kdbg.at<u64>(Kdbg::kPsActiveProcessHead))},
      {"KdDebuggerDataBlock", either(header.kd_debugger_data_block, kdbg_ ? kdbg_->va().value() : 0)},
      {"PspCidTable", kdbg.at<u64>(Kdbg::kPspCidTable)},
      {"ExpSystemResourcesList", kdbg.at<u64>(Kdbg::kExpSystemResourcesList)},
  };
  int agree = 0;
  for (const auto& [name, va] : stated) {
    if (va == 0) continue;
    const auto rva = layout.find_symbol(name);
    if (!rva || place_.base + rva->value() != VirtAddr(va)) return false;
    agree++;
  }
  return agree >= 3;
}

void Target::choose_layouts() {
  LayoutEvidence evidence{.kernel = kernel(), .kdbg = kdbg_ ? &*kdbg_ : nullptr};
  if (const auto head = symbol("PsActiveProcessHead")) evidence.process_list = *head;
  if (const auto system = pointer_at("PsInitialSystemProcess")) evidence.system_process = *system;
  evidence.nt = nt_;
  if (dump_.header) evidence.build = dump_.header->minor_version;
  if (evidence.build == 0) evidence.build = memory::read<u32>(kernel(), kUserSharedData + 0x260).value_or(0);
  // With exact symbols the built-in layouts only answer for types that the symbols lack.
  std::vector<LayoutScore> ranked = rank_layouts(evidence);
  // A wrong layout fails the first checks: a few dozen without one failure say as much as many with some.
  constexpr u32 kEnough = 100, kFewButWhole = 30;
  const auto fits = [&](const LayoutScore& s) {
    return (s.tested >= kEnough && s.share() >= 0.97) || (s.tested >= kFewButWhole && s.passed == s.tested);
  };
  bool sure = fits(ranked.front());
  if (layouts_.exact() == nullptr) {
    const InferenceInput input{.kernel = kernel(),
                               .kdbg = evidence.kdbg,
                               .nt = evidence.nt,
                               .process_list = evidence.process_list,
                               .system_process = evidence.system_process};
    take_over(
        sure ? infer_layout(input, *ranked.front().layout) : infer_nearest(input, evidence.build, ranked),
        sure);
  }
  std::vector<std::shared_ptr<const symbols::Layout>> layouts;
  for (const LayoutScore& s : ranked) layouts.push_back(s.layout);
  const LayoutScore& best = ranked.front();
  layouts_.set_candidates(std::move(layouts), sure ? Confidence::derived : Confidence::guess,
                          {best.passed, best.tested});
  if (layouts_.exact() != nullptr) return;
  note("layout", fmt::format("built-in {}: {} of {} checks on the target pass", best.layout->build(),
                             best.passed, best.tested));
  if (!sure)
    gaps_.push_back(
        {"kernel layout", best.layout->build(), "not confirmed by the target: members are guesses"});
  if (!kdbg_) return;
  for (const KdbgFact& fact : kdbg_facts())
    if (const u16 offset = kdbg_->number(fact.field); fact.path != nullptr && offset != 0)
      layouts_.set_offset(fact.type, fact.path, offset);
}

// Members that prove themselves, and what moved with them: see layout_inference.h.
void Target::take_over(const Inference& found, bool& sure) {
  std::map<std::string, std::vector<Layouts::Shift>> shifts;
  for (const Anchor& a : found.anchors)
    shifts[a.type].push_back({a.expected, a.shift(), Confidence::derived});
  for (auto& [type, list] : shifts) {
    std::stable_sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.from < b.from; });
    // A structure in which nothing moved is as its layout says: nothing to be done.
    const bool moved = std::any_of(list.begin(), list.end(), [](const auto& s) { return s.by != 0; });
    if (moved) layouts_.set_shifts(type, std::move(list));
  }
  if (found.moved() != 0) {
    std::string what;
    for (const Anchor& a : found.anchors)
      if (a.shift() != 0)
        what +=
            fmt::format("{}{}.{} {:+#x} ({})", what.empty() ? "" : ", ", a.type, a.path, a.shift(), a.how);
    note("members that lie elsewhere than in the layout", what);
  }
  for (const std::string& lost : found.lost)
    gaps_.push_back({"member", lost, "found neither where the nearest layout has it nor around there"});
  // Every member that can be proved has its place: the layout fits, moved or not.
  const auto proved = std::count_if(found.anchors.begin(), found.anchors.end(),
                                    [](const Anchor& a) { return a.tested >= kEnoughProofs; });
  if (found.lost.empty() && proved >= kEnoughMembers) sure = true;
}

void Target::load_modules() {
  LoadedModules found = read_kernel_modules(*this);
  for (Gap& g : found.gaps) gaps_.push_back(std::move(g));
  for (auto& module : found.modules) {
    if (module->base() == place_.base) {
      nt_->set_location(module->file_name(), module->path(), module->size());
      continue;
    }
    modules_.add(std::move(module));
  }
  if (dump_.triage)
    for (const dump::ListedModule& m : dump_.triage->modules) {
      if (m.base == place_.base) nt_->set_location(m.name, "", m.size);
      modules_.add(std::make_unique<Module>(m.name, "", m.base, m.size));
    }
}

void Target::map_cpus() {
  CpuList list = read_cpus(*this);
  cpus_ = std::move(list.cpus);
  for (Gap& g : list.gaps) gaps_.push_back(std::move(g));
  for (Known& k : list.known) known_.push_back(std::move(k));
}

void Target::read_version() {
  VirtAddr lab;
  if (kdbg_) lab = kdbg_->pointer(Kdbg::kNtBuildLab);
  if (lab.is_null())
    if (const auto s = symbol("NtBuildLab")) lab = *s;
  if (!lab.is_null()) build_lab_ = memory::read_c_string(kernel(), lab, 64);
  build_ = memory::read<u32>(kernel(), kUserSharedData + 0x260).value_or(0);  // since Windows 10
  if (build_ == 0 || build_ > 0xffff) {
    // NtBuildNumber: 0xF0001DB1 on a free build of 7601.
    if (const auto at = symbol("NtBuildNumber"))
      build_ = memory::read<u32>(kernel(), *at).value_or(0) & 0xffff;
  }
  if (build_ == 0 && !build_lab_.empty())
    build_ = static_cast<u32>(std::strtoul(build_lab_.c_str(), nullptr, 10));
  if (build_ == 0 && dump_.header) build_ = dump_.header->minor_version;
}

std::string Target::layout_source() const {
  if (layouts_.exact() != nullptr)
    return fmt::format("symbols ({}, {})", layouts_.exact()->origin(), nt_->symbols_from());
  if (layouts_.best() == nullptr) return "none";
  const Layouts::Score score = layouts_.best_score();
  return fmt::format("built-in layout {} ({}, {} of {} checks)", layouts_.best()->build(),
                     name(layouts_.best_confidence()), score.passed, score.tested);
}

const Source<VirtAddr>& Target::space(PhysAddr dtb) const {
  if (!paging_ || dtb.is_null()) return kernel();
  auto& space = spaces_[dtb.page()];
  if (!space) space = std::make_unique<memory::AddressSpace>(*physical_, dtb, paging_->rules());
  return *space;
}

Result<Bound> Target::bind(const MemberLine& member) const {
  auto& slot = bindings_[member.number()];
  if (slot) return *slot;
  slot = [&]() -> Result<Bound> {
    const char* names[1 + MemberLine::kOlderNames] = {member.path(), member.older()[0], member.older()[1],
                                                      member.older()[2]};
    for (const char* path : names) {
      if (path == nullptr) continue;
      const auto r = layouts_.resolve(member.type(), path);
      if (!r) continue;
      const symbols::Field& f = r->field;
      // An unknown size (a layout that gives offsets only) is the reader's.
      const bool fits = f.bit_length != 0 || member.size() == 0 || f.size == 0 || f.size == member.size();
      if (!fits) return fail(Error{.why = Why::layout_mismatch, .type = member.type(), .member = path});
      return Bound{f.offset, f.size == 0 ? member.size() : f.size, f.bit_offset, f.bit_length, r->confidence,
                   r->source};
    }
    return fail(Error{.why = Why::no_member, .type = member.type(), .member = member.path()});
  }();
  return *slot;
}

Result<VirtAddr> Target::symbol(const char* name) const {
  if (nt_ != nullptr)
    if (const auto va = nt_->find(name)) return *va;
  if (kdbg_) {
    static constexpr std::pair<std::string_view, u32> kFields[] = {
        {"PsLoadedModuleList", Kdbg::kPsLoadedModuleList},
        {"PsActiveProcessHead", Kdbg::kPsActiveProcessHead},
        {"PspCidTable", Kdbg::kPspCidTable},
        {"ExpSystemResourcesList", Kdbg::kExpSystemResourcesList},
        {"KeMaximumIncrement", Kdbg::kKeTimeIncrement},
        {"KeTimeIncrement", Kdbg::kKeTimeIncrement},
        {"KiBugCheckData", Kdbg::kKiBugcheckData},
        {"ObpRootDirectoryObject", Kdbg::kObpRootDirectoryObject},
        {"ObpTypeObjectType", Kdbg::kObpTypeObjectType},
        {"MmPfnDatabase", Kdbg::kMmPfnDatabase},
        {"MmNumberOfPhysicalPages", Kdbg::kMmNumberOfPhysicalPages},
        {"MmTotalCommitLimit", Kdbg::kMmTotalCommitLimit},
        {"MmTotalCommittedPages", Kdbg::kMmTotalCommittedPages},
        {"MmAvailablePages", Kdbg::kMmAvailablePages},
        {"MmResidentAvailablePages", Kdbg::kMmResidentAvailablePages},
        {"NtBuildLab", Kdbg::kNtBuildLab},
        {"KiProcessorBlock", Kdbg::kKiProcessorBlock},
        {"MmPhysicalMemoryBlock", Kdbg::kMmPhysicalMemoryBlock},
    };
    for (const auto& [field_name, field] : kFields)
      if (field_name == name)
        if (const VirtAddr va = kdbg_->pointer(field); !va.is_null()) return va;
  }
  if (dump_.header) {
    if (std::string_view(name) == "PsLoadedModuleList" && is_kernel(dump_.header->ps_loaded_module_list))
      return dump_.header->ps_loaded_module_list;
    if (std::string_view(name) == "PsActiveProcessHead" && is_kernel(dump_.header->ps_active_process_head))
      return dump_.header->ps_active_process_head;
  }
  return fail(Error{.why = Why::no_symbol, .type = name});
}

Result<VirtAddr> Target::pointer_at(const char* name) const {
  return memory::read<VirtAddr>(kernel(), TRY(symbol(name)));
}

void Target::look_up_symbols(Module& module) const {
  if (module.looked_for_symbols) return;
  module.looked_for_symbols = true;
  if (module.symbols() != nullptr || !module.pdb()) return;
  if (auto found = store_.find(*module.pdb())) module.set_symbols(found->layout, found->where);
}

void Target::open_image(Module& module, const Source<VirtAddr>& space) const {
  module.open_image(space, image_path_);
  for (Gap& g : image_path_.take_refused()) gaps_.push_back(std::move(g));
}

const Module* Target::module_at(VirtAddr va) const {
  // Images are opened and symbols looked up when an address first falls into a module.
  Module* m = const_cast<ModuleList&>(modules_).find(va);
  if (m == nullptr) return nullptr;
  open_image(*m, kernel());
  look_up_symbols(*m);
  return m;
}

std::string Target::symbolize(VirtAddr va) const {
  const Module* m = module_at(va);
  if (m == nullptr) return {};
  if (const auto named = m->name_of(va)) return fmt::format("{}!{}", m->name(), named->text);
  return fmt::format("{}+{:#x}", m->name(), va - m->base());
}

Result<std::string> Target::read_string(const UnicodeString& s, const Source<VirtAddr>& space) const {
  if (s.length == 0) return std::string();
  if (s.length % 2 != 0 || s.length > s.maximum)
    return fail(
        Error{.why = Why::implausible, .va = s.buffer, .type = "_UNICODE_STRING", .member = "Length"});
  std::vector<u8> bytes(s.length);
  if (auto r = memory::read_exact(space, s.buffer, std::span<u8>(bytes)); !r) {
    Error e = r.error();
    e.type = "_UNICODE_STRING";
    e.member = "Buffer";
    return fail(e);
  }
  return utf16_to_utf8(bytes);
}

void Target::record(const MemberLine& member, VirtAddr object, const Bound& bound) const {
  if (records_ != nullptr)
    records_->push_back({member.type(), member.path(), object, object + bound.offset, bound.size});
}

}  // namespace unhang::nt
