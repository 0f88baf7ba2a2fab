// Waiting for an I/O request: the thread has sent an IRP and waits for what its completion signals.
//
// A pending IRP alone says nothing: a thread that waits for a lock inside a file system has one too, and it
// is the thread itself that works on it. What it waits for must be tied to the IRP.
#include <algorithm>

#include "base/format.h"
#include "waits/io_class.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr u8 kPendingReturned = 1;  // SL_PENDING_RETURNED
constexpr u64 kNear = 0x200;        // a completion context often is a structure with the event inside

struct Tie {
  Confidence confidence;
  const char* how;
};

// Whether a thread waits for one thing, inside of IofCallDriver, and the IRP is the only one that it has
// under way.
bool sends_only(const World& world, const ThreadNode& t, const IrpNode& node) {
  constexpr u8 kExecutive = 0;
  if (t.thread.wait_blocks.size() != 1 || t.thread.wait_reason != kExecutive) return false;
  for (const size_t i : t.irps)
    if (const nt::Irp& other = world.irps[i].irp;
        other.current() != nullptr && other.address != node.irp.address)
      return false;
  return std::ranges::any_of(t.stack.symbols, [](std::string_view s) {
    return s.starts_with("nt!IofCallDriver") || s.starts_with("nt!IopfCallDriver");
  });
}

std::optional<Tie> tie(const World& world, const ThreadNode& t, const IrpNode& node, VirtAddr object) {
  const nt::Irp& irp = node.irp;
  if (!irp.user_event.is_null() && irp.user_event == object)
    return Tie{Confidence::derived, "the IRP's UserEvent"};
  if (is_kernel(node.file_object))
    if (const auto event = nt::Object(world.target(), node.file_object).address(nt::FILE_OBJECT::Event);
        event && *event == object)
      return Tie{Confidence::derived, "the file object's event (synchronous file)"};
  const bool on_stack = object >= t.thread.stack_limit && object < t.thread.stack_base;
  for (const nt::IrpStackLocation& l : irp.locations) {
    if (l.context.is_null()) continue;
    if (l.context == object) return Tie{Confidence::derived, "the context of the IRP's completion routine"};
    if (object - l.context < kNear)
      return Tie{on_stack ? Confidence::derived : Confidence::heuristic,
                 "an event inside the completion routine's context"};
  }
  // Not reason enough alone, but with a request that has gone below the file system it is what threads do.
  const nt::IrpStackLocation* at = irp.current();
  const bool sent_down = at != nullptr && irp.current_location < irp.stack_count;
  const bool pending = std::any_of(irp.locations.begin(), irp.locations.end(),
                                   [](const auto& l) { return (l.control & kPendingReturned) != 0; });
  const IoClass c = io_class(node);
  if (on_stack && sent_down && (c == IoClass::storage || c == IoClass::network || pending))
    return Tie{Confidence::heuristic, "an event on the thread's stack while its IRP is with a lower driver"};
  // Redirectors and filters keep the event in a structure of their own, which the IRP does not lead to.
  if (!on_stack && sent_down && (c == IoClass::storage || c == IoClass::network) &&
      sends_only(world, t, node))
    return Tie{Confidence::heuristic,
               "the thread waits inside of a driver that it has called, and this is its only pending IRP"};
  return std::nullopt;
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!t.waiting() || t.nature() == WaitNature::lock) continue;
    for (const size_t index : t.irps) {
      const IrpNode& node = world.irps[index];
      if (node.irp.current() == nullptr) continue;
      for (const nt::WaitBlock& block : t.thread.wait_blocks) {
        const auto tied = tie(world, t, node, block.object);
        if (!tied) continue;
        const auto d = nt::read_dispatcher(world.target(), block.object);
        const bool open_ended = io_class(node) == IoClass::open_ended;
        world.add_wait(t, {.object = block.object,
                           .kind = d ? std::string(nt::name(d->type)) : "Unknown",
                           .nature = open_ended ? WaitNature::idle : WaitNature::io,
                           .detail = fmt::format("{} of IRP {} at {}: {}", node.major, node.irp.address,
                                                 node.driver, tied->how),
                           .confidence = tied->confidence});
        world.add_edge({.from = t.thread.address,
                        .kind = "IRP",
                        .object = node.irp.address,
                        .confidence = tied->confidence,
                        .note = tied->how,
                        .waited = block.object});
      }
    }
  }
}

}  // namespace

extern const WaitKind io_kind;
const WaitKind io_kind{.name = "IRP", .order = 40, .find = find};

}  // namespace unhang::waits
