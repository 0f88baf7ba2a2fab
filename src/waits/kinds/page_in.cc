// Page faults: a thread waits for a page that is being read. Its request is not on the thread's list (paging
// I/O never is) but often its address is on the stack of the thread that sent it. The event lies in a
// structure that names that thread and the file. Threads that fault on the same page wait for the same
// event, or for a second one beside it.
#include <algorithm>
#include <map>

#include "base/format.h"
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
      edge.confidence = Confidence::heuristic;
      edge.note = "a paging request whose address is on the thread's stack";
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

void find(World& world) {
  std::map<VirtAddr, Read> reads;  // by MMINPAGE_SUPPORT, or by the event where there is none
  for (size_t i = 0; i < world.threads.size(); i++) {
    if (!faults(world.threads[i]) || world.threads[i].thread.wait_blocks.empty()) continue;
    const VirtAddr event = world.threads[i].thread.wait_blocks.front().object;
    const auto in_page = nt::read_in_page(world.target(), event);
    Read& read = reads[in_page ? in_page->address : event];
    read.waiters.push_back(i);
    if (in_page) read.in_page = *in_page;
  }
  for (const auto& [key, read] : reads) explain(world, read);
}

}  // namespace

extern const WaitKind page_in_kind;
const WaitKind page_in_kind{.name = "page-in", .order = 35, .find = find};

}  // namespace unhang::waits
