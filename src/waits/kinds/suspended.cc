// Suspended threads: by a debugger, by a job or a tool, or frozen with their process. Nobody in memory is
// recorded as the one who did it.
#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!t.waiting()) continue;
    const bool reason = t.thread.wait_reason == nt::kSuspended || t.thread.wait_reason == nt::kWrSuspended;
    if (!reason) continue;
    const std::string detail = t.thread.suspend_count == 0
                                   ? "suspended with its process, or about to be resumed"
                                   : fmt::format("suspended, SuspendCount {}", t.thread.suspend_count);
    const VirtAddr object =
        t.thread.wait_blocks.empty() ? t.thread.address : t.thread.wait_blocks.front().object;
    world.add_wait(
        t, {.object = object,
            .kind = "suspension",
            .nature = WaitNature::suspended,
            .detail = detail,
            .confidence = world.target().bind(nt::KTHREAD::WaitReason).value_or(nt::Bound{}).confidence});
  }
}

}  // namespace

extern const WaitKind suspended_kind;
const WaitKind suspended_kind{.name = "suspension", .order = 5, .find = find};

}  // namespace unhang::waits
