// Page faults: a thread waits for a page that is being read. Its request is not on the thread's list (paging
// I/O never is) but often its address is on the stack of the thread that sent it; else it is somewhere in
// memory and names the event (IRP.UserEvent, wdm.h: what completion signals). The event lies in a structure
// that names that thread and the file. Threads that fault on the same page wait for the same event, or for a
// second one beside it.
#include <algorithm>
#include <map>
#include <ranges>

#include "base/format.h"
#include "nt/irp_scan.h"
#include "nt/objects/in_page.h"
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

struct Read {
  std::vector<size_t> waiters;
  std::optional<nt::InPage> in_page;
  VirtAddr event{};              // that the request signals
  std::optional<nt::Irp> found;  // by that event, in all memory
};

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

// " of C:\\Windows\\System32\\shell32.dll", or nothing.
std::string of_file(const World& world, VirtAddr file) {
  const auto it = world.files.find(file);
  return it == world.files.end() ? "" : " of " + it->second.file.full_path();
}

void explain(World& world, const Read& read) {
  std::optional<size_t> reader, request;
  std::vector<size_t> senders = read.waiters;
  VirtAddr file;
  if (read.in_page) {
    world.adopt_file(read.in_page->file);
    file = read.in_page->file;
    if (const ThreadNode* t = world.find_or_adopt(read.in_page->thread)) {
      reader = static_cast<size_t>(t - world.threads.data());
      senders.insert(senders.begin(), *reader);
    }
  }
  for (const size_t i : senders)
    if (!request)
      if ((request = request_of(world, i))) reader = i;
  std::string how = "a paging request whose address is on the thread's stack";
  Confidence confidence = Confidence::heuristic;
  if (!request && read.found) {
    const auto sender = std::ranges::find_if(
        read.waiters, [&](size_t i) { return world.threads[i].thread.address == read.found->thread; });
    reader = sender == read.waiters.end() ? read.waiters.front() : *sender;
    request = world.adopt_irp(*reader, read.found->address);
    how = "a request that was found in memory by its UserEvent, which the thread waits for";
    confidence = Confidence::derived;
  }
  for (const size_t i : read.waiters) {
    ThreadNode& t = world.threads[i];
    const VirtAddr event = t.thread.wait_blocks.front().object;
    Edge edge{.from = t.thread.address,
              .kind = "page-in",
              .object = event,
              .confidence = Confidence::derived,
              .file = file};
    std::string detail = "a page" + of_file(world, file) + " that is being read";
    if (reader && *reader != i) {
      edge.to = world.threads[*reader].thread.address;
      edge.note = "it waits for the same page; the other thread sent the request";
      detail = fmt::format("a page{} that {} reads", of_file(world, file), world.who(edge.to));
      if (!request) edge.confidence = Confidence::heuristic;
    } else if (request) {
      const IrpNode& node = world.irps[*request];
      edge.kind = "IRP";
      edge.object = node.irp.address;
      edge.confidence = confidence;
      edge.note = how;
      detail = fmt::format("page-in by IRP {} at {}{}", node.irp.address, node.driver,
                           node.file.empty() ? "" : fmt::format(", {}", node.file));
    } else if (reader) {
      edge.note = fmt::format("MMINPAGE_SUPPORT {}: this thread reads the page{}; its request was not found",
                              read.in_page->address, of_file(world, file));
    } else {
      edge.note = "who reads the page is not known";
    }
    world.add_wait(t, {.object = event,
                       .kind = "page-in",
                       .nature = WaitNature::io,
                       .detail = detail,
                       .confidence = edge.confidence});
    world.add_edge(std::move(edge));
  }
}

// Requests for pages that threads wait long for and whose sender does not show it: a search of all memory.
void search(World& world, std::map<VirtAddr, Read>& reads) {
  constexpr u64 kLongMs = 1000;
  std::map<VirtAddr, Read*> wanted;  // by event
  for (auto& [key, read] : reads) {
    const bool is_long = std::ranges::any_of(
        read.waiters, [&](size_t i) { return world.threads[i].thread.waited_ms.value_or(0) >= kLongMs; });
    const bool shown =
        std::ranges::any_of(read.waiters, [&](size_t i) { return request_of(world, i).has_value(); });
    if (is_long && !shown) wanted[read.event] = &read;
  }
  if (wanted.empty()) return;
  for (const VirtAddr va : nt::find_irps(world.target(), {}).irps)
    if (const auto irp = nt::read_irp(world.target(), va))
      if (const auto it = wanted.find(irp->user_event); it != wanted.end()) it->second->found = *irp;
}

void find(World& world) {
  std::map<VirtAddr, Read> reads;  // by MMINPAGE_SUPPORT, or by the event where there is none
  for (size_t i = 0; i < world.threads.size(); i++) {
    if (!faults(world.threads[i]) || world.threads[i].thread.wait_blocks.empty()) continue;
    const VirtAddr event = world.threads[i].thread.wait_blocks.front().object;
    const auto in_page = nt::read_in_page(world.target(), event);
    Read& read = reads[in_page ? in_page->address : event];
    read.waiters.push_back(i);
    read.event = in_page ? in_page->event : event;
    if (in_page) read.in_page = *in_page;
  }
  search(world, reads);
  for (const auto& [key, read] : reads) explain(world, read);
}

}  // namespace

extern const WaitKind page_in_kind;
const WaitKind page_in_kind{.name = "page-in", .order = 35, .find = find};

}  // namespace unhang::waits
