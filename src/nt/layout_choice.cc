#include "nt/layout_choice.h"

#include <algorithm>
#include <map>

#include "memory/read.h"
#include "nt/walk.h"
#include "symbols/builtin.h"

namespace unhang::nt {

namespace {

// wdbgexts.h, KDDEBUGGER_DATA64.
constexpr KdbgFact kFacts[] = {
    {0x298, "_KTHREAD", "NextProcessor"},
    {0x29A, "_KTHREAD", "Teb"},
    {0x29C, "_KTHREAD", "KernelStack"},
    {0x29E, "_KTHREAD", "InitialStack"},
    {0x2A0, "_KTHREAD", "ApcState.Process"},
    {0x2A2, "_KTHREAD", "State"},
    {0x2A8, "_EPROCESS", nullptr},
    {0x2AA, "_EPROCESS", "Peb"},
    {0x2AC, "_EPROCESS", "InheritedFromUniqueProcessId"},
    {0x2AE, "_EPROCESS", "Pcb.DirectoryTableBase"},
    {0x2B0, "_KPRCB", nullptr},
    {0x2B4, "_KPRCB", "CurrentThread"},
    {0x2BA, "_KPRCB", "VendorString"},
    {0x2BE, "_KPRCB", "Number"},
    {0x2C0, "_ETHREAD", nullptr},
    {0x338, "_KPRCB", "Context"},
};

constexpr size_t kMostProcesses = 48, kMostThreads = 6;

class Scorer {
 public:
  Scorer(const LayoutEvidence& evidence, const symbols::Layout& layout) : e_(evidence), layout_(layout) {}

  LayoutScore score(std::shared_ptr<const symbols::Layout> layout, const std::vector<VirtAddr>& links) {
    score_.layout = std::move(layout);
    if (e_.kdbg != nullptr) kdbg();
    const auto link = offset("_EPROCESS", "ActiveProcessLinks");
    if (!link) return score_;
    for (const VirtAddr l : links) process(l - *link);
    if (links.empty() && !e_.system_process.is_null()) {
      const Walk walk = walk_ring(e_.kernel, e_.system_process + *link, kMostProcesses);
      for (const VirtAddr l : walk.links)
        if (e_.nt == nullptr || !e_.nt->contains(l)) process(l - *link);
    }
    return score_;
  }

 private:
  std::optional<u64> offset(const char* type, const char* path) {
    const auto [it, added] = offsets_.try_emplace({type, path});
    if (added)
      if (const auto f = layout_.field(type, path)) it->second = f->offset;
    return it->second;
  }
  void test(bool passed, u32 weight = 1) {
    score_.tested += weight;
    if (passed) score_.passed += weight;
  }

  void kdbg() {
    for (const KdbgFact& fact : kFacts) {
      const u16 stated = e_.kdbg->number(fact.field);
      if (stated == 0) continue;
      const auto type = layout_.find_type(fact.type);
      if (!type) continue;
      if (fact.path == nullptr) {
        test(type->size == stated, 4);
      } else if (const auto o = offset(fact.type, fact.path)) {
        test(*o == stated, 4);
      }
    }
  }

  template <class T>
  std::optional<T> read(VirtAddr object, const char* type, const char* path) {
    const auto o = offset(type, path);
    if (!o) return std::nullopt;
    const auto v = memory::read<T>(e_.kernel, object + *o);
    if (!v) return std::nullopt;
    return *v;
  }

  void process(VirtAddr process) {
    const auto type = memory::read<u8>(e_.kernel, process);
    if (!type) return;  // the page is missing: no evidence either way
    const auto pid = read<u64>(process, "_EPROCESS", "UniqueProcessId");
    test((*type & 0x7f) == 3);
    if (pid) test(*pid < (1u << 26) && *pid % 4 == 0);
    if (const auto dtb = read<u64>(process, "_EPROCESS", "Pcb.DirectoryTableBase"))
      test(*dtb != 0 && (*dtb & 0xff0) == 0 && *dtb >> 52 == 0);
    if (const auto name = read<std::array<u8, 15>>(process, "_EPROCESS", "ImageFileName")) {
      const auto end = std::find(name->begin(), name->end(), 0);
      test(end != name->begin() &&
           std::all_of(name->begin(), end, [](u8 c) { return c >= 0x20 && c < 0x7f; }));
    }
    const auto list = offset("_EPROCESS", "ThreadListHead"), link = offset("_ETHREAD", "ThreadListEntry");
    if (!list || !link || !pid) return;
    const auto head = memory::read<ListEntry>(e_.kernel, process + *list);
    if (!head) return;
    test(is_kernel(head->flink) && is_kernel(head->blink));
    const Walk threads = walk_list(e_.kernel, process + *list, kMostThreads);
    for (const VirtAddr l : threads.links) thread(l - *link, process, *pid);
  }

  void thread(VirtAddr thread, VirtAddr process, u64 pid) {
    const auto type = memory::read<u8>(e_.kernel, thread);
    if (!type) return;
    test((*type & 0x7f) == 6);
    if (const auto p = read<VirtAddr>(thread, "_KTHREAD", "Process")) test(*p == process);
    if (const auto p = read<u64>(thread, "_ETHREAD", "Cid.UniqueProcess")) test(*p == pid);
    if (const auto s = read<u8>(thread, "_KTHREAD", "State")) test(*s <= 9);
    if (const auto r = read<u8>(thread, "_KTHREAD", "WaitReason")) test(*r <= 45);
    const auto base = read<VirtAddr>(thread, "_KTHREAD", "StackBase"),
               limit = read<VirtAddr>(thread, "_KTHREAD", "StackLimit"),
               stack = read<VirtAddr>(thread, "_KTHREAD", "KernelStack");
    if (base && limit && stack)
      test(is_kernel(*base) && *base > *limit && base->page_offset() == 0 && *stack <= *base &&
           *stack >= *limit);
    if (const auto irps = read<ListEntry>(thread, "_ETHREAD", "IrpList"))
      test(is_kernel(irps->flink) && is_kernel(irps->blink));
  }

  const LayoutEvidence& e_;
  const symbols::Layout& layout_;
  // Asked for again with each object. By the addresses of the names, which are literals.
  std::map<std::pair<const char*, const char*>, std::optional<u64>> offsets_;
  LayoutScore score_;
};

}  // namespace

std::span<const KdbgFact> kdbg_facts() {
  return kFacts;
}

std::vector<LayoutScore> rank_layouts(const LayoutEvidence& evidence) {
  std::vector<VirtAddr> links;
  if (!evidence.process_list.is_null())
    links = walk_list(evidence.kernel, evidence.process_list, kMostProcesses).links;
  std::vector<LayoutScore> scores;
  for (const auto& layout : symbols::builtin_layouts())
    scores.push_back(Scorer(evidence, *layout).score(layout, links));
  const auto distance = [&](const LayoutScore& s) {
    const i64 d = i64{s.layout->build_number()} - i64{evidence.build};
    return d < 0 ? -d : d;
  };
  std::stable_sort(scores.begin(), scores.end(), [&](const LayoutScore& a, const LayoutScore& b) {
    if (a.share() != b.share()) return a.share() > b.share();
    // A layout that knows more members could be tested more often: more evidence for the same share.
    if (a.tested != b.tested) return a.tested > b.tested;
    return distance(a) < distance(b);
  });
  return scores;
}

}  // namespace unhang::nt
