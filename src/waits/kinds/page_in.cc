// Page faults: a thread waits for a page that is being read. Its request is not on the thread's list (paging
// I/O never is) but its address is on the stack of the thread that sent it. Threads that fault on the same
// page wait for the same event; one of them, or another thread, does the reading.
#include <algorithm>
#include <map>

#include "base/format.h"
#include "nt/objects/irp.h"
#include "waits/io_class.h"
#include "waits/kind.h"
#include "waits/stack_evidence.h"

namespace unhang::waits {

namespace {

bool faults(const ThreadNode& t) {
  return t.waiting() && (t.thread.wait_reason == nt::kPageIn || t.thread.wait_reason == nt::kWrPageIn ||
                         t.thread.wait_reason == nt::kWrPhysicalFault);
}

// A pending request on a stack, sent by the thread itself.
std::optional<size_t> request_of(World& world, size_t thread) {
  for (const StackWord& w : kernel_stack_words(world, world.threads[thread])) {
    if (!is_kernel(w.value) || w.value.value() % 16 != 0 || !nt::is_irp(world.target(), w.value)) continue;
    const auto irp = nt::read_irp(world.target(), w.value);
    if (!irp || !irp->consistent || irp->current() == nullptr) continue;
    if (!irp->thread.is_null() && irp->thread != world.threads[thread].thread.address) continue;
    return world.adopt_irp(thread, w.value);
  }
  return std::nullopt;
}

void find(World& world) {
  std::map<VirtAddr, std::vector<size_t>> by_object;
  for (size_t i = 0; i < world.threads.size(); i++)
    if (faults(world.threads[i]))
      for (const nt::WaitBlock& b : world.threads[i].thread.wait_blocks) by_object[b.object].push_back(i);
  for (const auto& [object, threads] : by_object) {
    std::optional<size_t> reader;
    std::optional<size_t> request;
    for (const size_t i : threads)
      if (!reader)
        if (const auto r = request_of(world, i)) {
          reader = i;
          request = r;
        }
    for (const size_t i : threads) {
      ThreadNode& t = world.threads[i];
      Edge edge{.from = t.thread.address, .kind = "page-in", .object = object};
      std::string detail = "a page that is being read";
      edge.confidence = Confidence::derived;
      if (request && *reader == i) {
        const IrpNode& node = world.irps[*request];
        edge.kind = "IRP";
        edge.object = node.irp.address;
        edge.confidence = Confidence::heuristic;
        edge.note = "a paging request whose address is on the thread's stack";
        detail = fmt::format("page-in by IRP {} at {}{}", node.irp.address, node.driver,
                             node.file.empty() ? "" : fmt::format(", {}", node.file));
      } else if (reader) {
        edge.to = world.threads[*reader].thread.address;
        edge.note = "it waits for the same page; the other thread sent the request";
        detail = fmt::format("page that {} reads", world.who(edge.to));
      } else {
        edge.note = "who reads the page is not known";
      }
      world.add_wait(t, {.object = object,
                         .kind = "page-in",
                         .nature = WaitNature::io,
                         .detail = detail,
                         .confidence = edge.confidence});
      world.add_edge(std::move(edge));
    }
  }
}

}  // namespace

extern const WaitKind page_in_kind;
const WaitKind page_in_kind{.name = "page-in", .order = 35, .find = find};

}  // namespace unhang::waits
