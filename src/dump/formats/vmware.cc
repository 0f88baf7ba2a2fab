// Virtual machines that VMware suspended (.vmss) or took a snapshot of (.vmsn), with the memory inside of
// that file or in a .vmem file beside it (FORMATS 4). Either of the two may be named; a .vmem without the
// other is raw memory. Written from descriptions: no real file was at hand.
#include <filesystem>

#include "base/format.h"
#include "dump/dump_file.h"
#include "dump/vmware_state.h"

namespace unhang::dump {

namespace {

constexpr const char* kType = "VMware state";

bool has_extension(const File& file, std::string_view extension) {
  return std::filesystem::path(file.path()).extension() == extension;
}

// The file of another extension beside one; null when there is none.
std::shared_ptr<const File> beside(const File& file, const char* extension) {
  std::error_code ignored;
  const std::filesystem::path path = std::filesystem::path(file.path()).replace_extension(extension);
  if (!std::filesystem::is_regular_file(path, ignored)) return nullptr;
  auto other = File::open(path.string());
  return other ? *other : nullptr;
}

std::shared_ptr<const File> state_beside(const File& memory) {
  for (const char* extension : {".vmss", ".vmsn"})
    if (auto state = beside(memory, extension); state && is_vmware_state(state->bytes())) return state;
  return nullptr;
}

bool probe(const File& file) {
  return is_vmware_state(file.bytes()) || (has_extension(file, ".vmem") && state_beside(file) != nullptr);
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions&) {
  const bool named_state = is_vmware_state(file->bytes());
  const std::shared_ptr<const File> state_file = named_state ? file : state_beside(*file);
  if (!state_file)
    return fail(Error{.why = Why::io, .type = kType, .detail = "it vanished while it was opened"});
  VmwareState state = TRY(read_vmware_state(state_file->bytes()));

  std::shared_ptr<const File> memory = named_state ? nullptr : file;
  u64 base = 0, size = memory ? memory->size() : 0;
  const bool inside = !memory && state.memory_size != 0;
  if (inside) {
    memory = state_file;
    base = state.memory_offset;
    size = state.memory_size;
  } else if (!memory) {
    memory = beside(*file, ".vmem");
    if (!memory)
      return fail(Error{.why = Why::bad_file,
                        .type = kType,
                        .detail = "the memory is not in it, and no .vmem file of its name lies beside it"});
    size = memory->size();
  }

  std::vector<MappedSource<PhysAddr>::Run> runs;
  u64 beyond = 0;
  for (const VmwareState::Region& r : state.regions) {
    const u64 begin = r.page << kPageShift, bytes = r.size << kPageShift;
    const u64 there = begin >= size ? 0 : std::min(bytes, size - begin);
    beyond += bytes - there;
    runs.push_back({Pfn{r.ppn}.address(), there, base + begin});
  }
  if (state.regions.empty()) runs.push_back({PhysAddr(0), size, base});
  auto source = std::make_unique<MappedSource<PhysAddr>>(memory, std::move(runs));
  if (source->ranges().empty())
    return fail(Error{.why = Why::bad_file, .type = kType, .detail = "truncated before any memory"});

  DumpFile dump;
  dump.gaps = std::move(state.gaps);
  if (const u64 lost = source->lost() + beyond; lost != 0)
    dump.gaps.push_back(
        {"guest memory", "", fmt::format("the memory image is truncated: {} bytes are missing", lost)});
  if (state.partial) dump.gaps.push_back({"VMware state", "", "VMware had not finished writing it"});
  dump.description = fmt::format("VMware {}, memory {}, {}, not checked against a real file",
                                 has_extension(*state_file, ".vmsn") ? "snapshot" : "suspended state",
                                 inside ? "inside" : "in a .vmem file",
                                 counted(state.cpus.size(), "processor", "processors"));
  dump.physical = std::move(source);
  dump.cpus = std::move(state.cpus);
  return dump;
}

}  // namespace

extern const Format vmware_format;
const Format vmware_format{.name = "vmware", .order = 25, .probe = probe, .open = open};

}  // namespace unhang::dump
