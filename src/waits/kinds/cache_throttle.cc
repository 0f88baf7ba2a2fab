// Write throttling: the cache manager lets a thread wait while too many pages are dirty or too few free. What
// it waits for is the disk: the lazy writer must get pages out.
// Facts: public PDBs (_DEFERRED_WRITE); CcCanIWrite is documented and exported.
#include <algorithm>

#include "base/format.h"
#include "waits/kind.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

struct DEFERRED_WRITE {
  static constexpr nt::TypeName kType{"_DEFERRED_WRITE"};
  static inline const nt::Member<i16> NodeTypeCode{kType, "NodeTypeCode"};
  static inline const nt::Member<VirtAddr> FileObject{kType, "FileObject"};
  static inline const nt::Member<u32> BytesToWrite{kType, "BytesToWrite"};
  static inline const nt::Member<VirtAddr> Event{kType, "Event"};
};
constexpr i16 kDeferredWriteCode = 0x02fc;  // CACHE_NTC_DEFERRED_WRITE, seen in published !defwrites output

struct Deferred {
  VirtAddr address{}, file{};
  u32 bytes = 0;
};

// The block that the thread has put on the list of deferred writes: it lies on its stack and points to the
// event that it waits for.
std::optional<Deferred> block_of(const World& world, const ThreadNode& t, VirtAddr object) {
  const auto event = world.target().bind(DEFERRED_WRITE::Event);
  if (!event) return std::nullopt;
  for (const StackWord& w : kernel_stack_words(world, t)) {
    if (w.value != object) continue;
    const nt::Object o(world.target(), w.at - event->offset);
    if (o.value_or(DEFERRED_WRITE::NodeTypeCode, 0) != kDeferredWriteCode) continue;
    return Deferred{o.va(), o.value_or(DEFERRED_WRITE::FileObject, {}),
                    o.value_or(DEFERRED_WRITE::BytesToWrite, 0)};
  }
  return std::nullopt;
}

bool named(const ThreadNode& t) {
  return std::any_of(t.stack.symbols.begin(), t.stack.symbols.end(),
                     [](std::string_view s) { return s.starts_with("nt!CcCanIWrite"); });
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!t.waiting() || t.thread.user_mode_wait || t.nature() == WaitNature::lock) continue;
    for (const nt::WaitBlock& b : t.thread.wait_blocks) {
      const auto block = block_of(world, t, b.object);
      if (!block && !named(t)) continue;
      std::string file;
      if (block && is_kernel(block->file)) {
        const auto it = world.files.find(block->file);
        if (it != world.files.end()) file = it->second.file.full_path();
      }
      const Confidence confidence = block ? Confidence::derived : Confidence::heuristic;
      world.add_wait(
          t, {.object = b.object,
              .kind = "write throttle",
              .nature = WaitNature::io,
              .detail = fmt::format("the cache manager holds the write back: too many dirty pages{}{}",
                                    block ? fmt::format(" ({} bytes)", block->bytes) : "",
                                    file.empty() ? "" : ", " + file),
              .confidence = confidence});
      world.add_edge({.from = t.thread.address,
                      .kind = "write throttle",
                      .object = block ? block->address : b.object,
                      .confidence = confidence,
                      .note = "ends when the lazy writer has written enough pages"});
      break;
    }
  }
}

}  // namespace

extern const WaitKind cache_throttle_kind;
const WaitKind cache_throttle_kind{.name = "write throttle", .order = 36, .find = find};

}  // namespace unhang::waits
