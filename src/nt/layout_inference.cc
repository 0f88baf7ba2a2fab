#include "nt/layout_inference.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <numeric>

#include "base/format.h"
#include "memory/read.h"
#include "nt/accessor.h"
#include "nt/objects/thread.h"
#include "nt/walk.h"

namespace unhang::nt {

namespace {

constexpr size_t kMostProcesses = 64, kMostThreads = 8;
constexpr i32 kFar = 0x200;  // how far from its place a member is looked for
constexpr u32 kEnoughObjects = 3;
constexpr u8 kMostWaitReasons = 45;
constexpr double kShare = 0.95;  // lists of a running guest may be torn

// What one object says of a place. perhaps: it fits there as it would in many places (an empty list), so it
// confirms the expected one and proves no other. nothing: it cannot be read there, or has no say.
enum class Says : u8 { yes, no, perhaps, nothing };

struct LinkSample {  // an entry of a process's list of threads
  VirtAddr address{}, process{};
};
struct ThreadSample {
  VirtAddr address{}, process{};
};
struct ProcessSample {
  VirtAddr address{};
  std::vector<VirtAddr> threads;
};

class Inferrer {
 public:
  Inferrer(const InferenceInput& in, const symbols::Layout& layout) : in_(in), layout_(layout) {}

  Inference run() {
    stated();
    if (sample()) search();
    return std::move(out_);
  }

 private:
  std::optional<u32> expected(const char* type, const char* path) const {
    const auto f = layout_.field(type, path);
    return f ? std::optional<u32>(f->offset) : std::nullopt;
  }

  void add(const char* type, const char* path, u32 found, std::string how, u32 passed = 0, u32 tested = 0) {
    const auto e = expected(type, path);
    if (!e) return;
    for (const Anchor& a : out_.anchors)
      if (a.type == type && a.path == path) return;
    out_.anchors.push_back({type, path, *e, found, passed, tested, std::move(how)});
  }

  // What KDBG and the code of exported functions state.
  void stated() {
    if (in_.kdbg != nullptr)
      for (const KdbgFact& fact : kdbg_facts())
        if (const u16 offset = in_.kdbg->number(fact.field); fact.path != nullptr && offset != 0)
          add(fact.type, fact.path, offset, "KDBG");
    if (in_.nt == nullptr) return;
    for (const Accessor& a : accessors()) {
      const auto va = in_.nt->find(a.function);
      if (!va) continue;
      std::array<u8, 24> code{};
      const memory::Some some = memory::read_some(in_.kernel, *va, std::span<u8>(code));
      if (const auto offset = offset_in_code({code.data(), some.size}); offset && *offset < 0x2000)
        add(a.type, a.path, *offset, fmt::format("code of {}", a.function));
    }
  }

  // Processes by their list, threads by the scheduler's list, whose place has not changed since Windows 7.
  bool sample() {
    const auto links = expected("_EPROCESS", "ActiveProcessLinks");
    const auto head = expected("_KPROCESS", "ThreadListHead");
    if (!links || in_.process_list.is_null()) return false;
    const Walk walk = walk_list(in_.kernel, in_.process_list, kMostProcesses);
    if (walk.links.empty()) return false;
    u32 offset = *links;
    // The System process is the first, and its address is exported.
    if (!in_.system_process.is_null()) {
      const u64 distance = walk.links.front() - in_.system_process;
      if (distance < 0x1000) {
        offset = static_cast<u32>(distance);
        add("_EPROCESS", "ActiveProcessLinks", offset, "PsInitialSystemProcess and PsActiveProcessHead");
      }
    }
    std::vector<LinkSample> thread_links;
    for (const VirtAddr l : walk.links) {
      const VirtAddr process = l - offset;
      if (!is(process, 3)) continue;
      processes_.push_back({.address = process, .threads = {}});
      if (head)
        for (const VirtAddr t : walk_list(in_.kernel, process + *head, kMostThreads).links)
          thread_links.push_back({t, process});
    }
    sample_threads(thread_links);
    return !processes_.empty();
  }

  // A thread begins with type 6 and the list of those who wait for it.
  void sample_threads(const std::vector<LinkSample>& links) {
    look<LinkSample>("_KTHREAD", "ThreadListEntry", links, 8, [&](const LinkSample& l, u32 o) {
      const VirtAddr thread = l.address - o, waiters = thread + 8;
      if (!at<u8>(thread)) return Says::nothing;
      const auto first = at<VirtAddr>(waiters);
      return is(thread, 6) && first && at<VirtAddr>(*first + 8) == waiters ? Says::yes : Says::no;
    });
    const u32 entry = place("_KTHREAD", "ThreadListEntry");
    for (const LinkSample& l : links) {
      const VirtAddr thread = l.address - entry;
      if (entry == 0 || !is(thread, 6)) continue;
      threads_.push_back({thread, l.process});
      for (ProcessSample& p : processes_)
        if (p.address == l.process) p.threads.push_back(thread);
    }
  }

  bool is(VirtAddr object, u8 type) const {
    const auto t = memory::read<u8>(in_.kernel, object);
    return t && (*t & 0x7f) == type;
  }

  template <class T>
  std::optional<T> at(VirtAddr va) const {
    const auto v = memory::read<T>(in_.kernel, va);
    return v ? std::optional<T>(*v) : std::nullopt;
  }

  // By how much the member next to that one moved, of those that were found. A type moves in pieces.
  i32 neighbour_shift(std::string_view type, u32 offset) const {
    const Anchor* nearest = nullptr;
    const auto distance = [&](const Anchor& a) {
      return a.expected > offset ? a.expected - offset : offset - a.expected;
    };
    for (const Anchor& a : out_.anchors)
      if (a.type == type && (nearest == nullptr || distance(a) < distance(*nearest))) nearest = &a;
    return nearest == nullptr ? 0 : nearest->shift();
  }

  // Looks for a member: where its neighbours make it expected, then ever farther away. test: what one object
  // says of an offset.
  template <class Sample>
  void look(const char* type, const char* path, const std::vector<Sample>& samples, u32 step,
            const std::function<Says(const Sample&, u32)>& test) {
    const auto e = expected(type, path);
    if (!e) return;
    const i32 middle = static_cast<i32>(*e) + neighbour_shift(type, *e);
    u32 tested_there = 0;
    for (i32 distance = 0; distance <= kFar; distance += static_cast<i32>(step))
      for (const i32 d : {distance, -distance}) {
        if (middle + d < 0) continue;
        const u32 offset = static_cast<u32>(middle + d);
        u32 passed = 0, tested = 0;
        bool proved = distance == 0;
        for (const Sample& s : samples) {
          const Says says = test(s, offset);
          if (says == Says::nothing) continue;
          tested++;
          if (says != Says::no) passed++;
          proved |= says == Says::yes;
          // Most places are wrong: the first few objects tell.
          if (tested - passed > 2 + tested / 8) break;
        }
        if (distance == 0) tested_there = tested;
        if (proved && tested >= kEnoughObjects && passed >= kShare * tested)
          return add(type, path, offset, fmt::format("{} of {} objects", passed, tested), passed, tested);
        if (distance == 0) break;
      }
    if (tested_there >= kEnoughObjects) out_.lost.push_back(fmt::format("{}.{}", type, path));
  }

  u64 pid_of(VirtAddr process) const {
    return at<u64>(process + place("_EPROCESS", "UniqueProcessId")).value_or(~u64{0});
  }

  void search() {
    search_processes();
    search_threads();
  }

  void search_processes() {
    using P = ProcessSample;
    look<P>("_EPROCESS", "UniqueProcessId", processes_, 8, [&](const P& p, u32 o) {
      const auto v = at<u64>(p.address + o);
      if (!v) return Says::nothing;
      const bool system = p.address == in_.system_process;
      return (system ? *v == 4 : *v != 0 && *v % 4 == 0 && *v < (1u << 26)) ? Says::yes : Says::no;
    });
    look<P>("_EPROCESS", "ImageFileName", processes_, 4, [&](const P& p, u32 o) {
      const auto v = at<std::array<char, 15>>(p.address + o);
      if (!v) return Says::nothing;
      const auto end = std::find(v->begin(), v->end(), '\0');
      const std::string name(v->begin(), end);
      if (p.address == in_.system_process) return name == "System" ? Says::yes : Says::no;
      const bool printable =
          std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
      return name.size() >= 3 && printable ? Says::yes : Says::no;
    });
    // The scheduler's list and the executive's have the same order: the first entries are of one thread.
    std::optional<u64> entry;
    look<P>("_EPROCESS", "ThreadListHead", processes_, 8, [&](const P& p, u32 o) {
      if (p.threads.empty()) return Says::nothing;
      const auto first = at<VirtAddr>(p.address + o);
      if (!first) return Says::nothing;
      const u64 distance = *first - p.threads.front();
      if (distance < 0x300 || distance > 0x1000) return Says::no;
      if (const auto back = at<VirtAddr>(*first + 8); !back || *back != p.address + o) return Says::no;
      if (&p == &processes_.front() || !entry) entry = distance;
      return *entry == distance ? Says::yes : Says::no;
    });
    if (entry)
      if (const auto head = find("_EPROCESS", "ThreadListHead"))
        add("_ETHREAD", "ThreadListEntry", static_cast<u32>(*entry), head->how, head->passed, head->tested);
    look<P>("_EPROCESS", "SeAuditProcessCreationInfo.ImageFileName", processes_, 8, [&](const P& p, u32 o) {
      if (p.address == in_.system_process) return Says::nothing;
      const auto v = at<VirtAddr>(p.address + o);
      if (!v) return Says::nothing;
      if (!is_kernel(*v)) return Says::no;
      const auto s = at<UnicodeString>(*v);
      if (!s || s->length < 4 || s->length % 2 != 0 || s->length > s->maximum || s->length > 1024)
        return Says::no;
      const auto c = at<u16>(s->buffer);
      return c && *c == '\\' ? Says::yes : Says::no;
    });
    if (const auto quota = expected("_HANDLE_TABLE", "QuotaProcess"))
      look<P>("_EPROCESS", "ObjectTable", processes_, 8, [&](const P& p, u32 o) {
        if (p.address == in_.system_process) return Says::nothing;
        const auto v = at<VirtAddr>(p.address + o);
        if (!v) return Says::nothing;
        return is_kernel(*v) && at<VirtAddr>(*v + *quota) == p.address ? Says::yes : Says::no;
      });
  }

  void search_threads() {
    using T = ThreadSample;
    look<T>("_KTHREAD", "Process", threads_, 8, [&](const T& t, u32 o) {
      const auto v = at<VirtAddr>(t.address + o);
      if (!v) return Says::nothing;
      return *v == t.process ? Says::yes : Says::no;
    });
    look<T>("_KTHREAD", "StackBase", threads_, 8, [&](const T& t, u32 o) {
      const auto v = at<VirtAddr>(t.address + o),
                 stack = at<VirtAddr>(t.address + place("_KTHREAD", "KernelStack"));
      if (!v || !stack) return Says::nothing;
      return is_kernel(*v) && v->page_offset() == 0 && *stack <= *v && *v - *stack < 0x20000 ? Says::yes
                                                                                             : Says::no;
    });
    look<T>("_KTHREAD", "MutantListHead", threads_, 8, [&](const T& t, u32 o) {
      const auto v = at<ListEntry>(t.address + o);
      if (!v) return Says::nothing;
      const auto back = at<VirtAddr>(v->flink + 8);
      if (!back || *back != t.address + o) return Says::no;
      return v->flink == t.address + o ? Says::perhaps : Says::yes;
    });
    // Who waits for a queue (dispatcher types 4 and 0x15, since Windows 8) waits for work, and the reason is
    // WrQueue (wdm.h; workers in every published `!process 0 7`).
    look<T>("_KTHREAD", "WaitReason", threads_, 1, [&](const T& t, u32 o) {
      const auto state = at<u8>(t.address + place("_KTHREAD", "State")), reason = at<u8>(t.address + o);
      const auto block = at<VirtAddr>(t.address + near("_KTHREAD", "WaitBlockList"));
      if (state != static_cast<u8>(ThreadState::waiting) || !reason || !block) return Says::nothing;
      const auto object = at<VirtAddr>(*block + expected("_KWAIT_BLOCK", "Object").value_or(0x20));
      if (!object || !is_kernel(*object)) return Says::nothing;
      if (is(*object, 4) || is(*object, 0x15)) return *reason == kWrQueue ? Says::yes : Says::no;
      return *reason <= kMostWaitReasons ? Says::perhaps : Says::no;
    });
    look<T>("_ETHREAD", "Cid.UniqueProcess", threads_, 8, [&](const T& t, u32 o) {
      const auto pid = at<u64>(t.address + o), tid = at<u64>(t.address + o + 8);
      if (!pid || !tid) return Says::nothing;
      return *pid == pid_of(t.process) && *tid % 4 == 0 && *tid < (1u << 26) && *tid != 0 ? Says::yes
                                                                                          : Says::no;
    });
    // An empty list, or one of requests: they begin with type 6.
    const u32 link = expected("_IRP", "ThreadListEntry").value_or(0x20);
    look<T>("_ETHREAD", "IrpList", threads_, 8, [&](const T& t, u32 o) {
      const auto v = at<ListEntry>(t.address + o);
      if (!v) return Says::nothing;
      const auto back = at<VirtAddr>(v->flink + 8);
      if (!back || *back != t.address + o) return Says::no;
      if (v->flink == t.address + o) return Says::perhaps;
      return at<u16>(v->flink - link) == u16{6} ? Says::yes : Says::no;
    });
  }

  const Anchor* find(std::string_view type, std::string_view path) const {
    for (const Anchor& a : out_.anchors)
      if (a.type == type && a.path == path) return &a;
    return nullptr;
  }
  // Where a member is that is not looked for.
  u32 near(const char* type, const char* path) const {
    const u32 e = expected(type, path).value_or(0);
    return static_cast<u32>(static_cast<i32>(e) + neighbour_shift(type, e));
  }
  u32 place(const char* type, const char* path) const {
    if (const Anchor* a = find(type, path)) return a->found;
    return expected(type, path).value_or(0);
  }

  const InferenceInput& in_;
  const symbols::Layout& layout_;
  Inference out_;
  std::vector<ProcessSample> processes_;
  std::vector<ThreadSample> threads_;
};

}  // namespace

size_t Inference::moved() const {
  return static_cast<size_t>(
      std::count_if(anchors.begin(), anchors.end(), [](const Anchor& a) { return a.shift() != 0; }));
}

size_t Inference::breaks() const {
  std::map<std::string_view, std::map<u32, i32>> types;
  for (const Anchor& a : anchors) types[a.type][a.expected] = a.shift();
  size_t n = 0;
  for (const auto& [type, shifts] : types) {
    i32 before = 0;
    for (const auto& [offset, by] : shifts) {
      n += by != before;
      before = by;
    }
  }
  return n;
}

Inference infer_layout(const InferenceInput& input, const symbols::Layout& layout) {
  return Inferrer(input, layout).run();
}

Inference infer_nearest(const InferenceInput& input, u32 build, std::vector<LayoutScore>& ranked) {
  Inference best = infer_layout(input, *ranked.front().layout);
  std::vector<size_t> nearest(ranked.size());
  std::iota(nearest.begin(), nearest.end(), size_t{0});
  const auto distance = [&](size_t i) {
    return std::abs(i64{ranked[i].layout->build_number()} - i64{build});
  };
  std::stable_sort(nearest.begin(), nearest.end(),
                   [&](size_t a, size_t b) { return distance(a) < distance(b); });
  constexpr size_t kTried = 3;
  size_t chosen = 0;
  for (size_t n = 0; n < std::min(kTried, nearest.size()); n++) {
    if (nearest[n] == 0) continue;
    Inference other = infer_layout(input, *ranked[nearest[n]].layout);
    if (std::pair(other.lost.size(), other.breaks()) >= std::pair(best.lost.size(), best.breaks())) continue;
    best = std::move(other);
    chosen = nearest[n];
  }
  std::rotate(ranked.begin(), ranked.begin() + static_cast<i64>(chosen),
              ranked.begin() + static_cast<i64>(chosen) + 1);
  return best;
}

}  // namespace unhang::nt
