#include "waits/stack_evidence.h"

#include <algorithm>

namespace unhang::waits {

namespace {

// Kernel stacks are 24 KiB; what lies far out was there before the thread did what it does now.
constexpr u64 kMostKernelStack = 0x3000, kMostUserStack = 0x800;

void append(const Source<VirtAddr>& space, VirtAddr from, u64 size, std::vector<StackWord>& out) {
  std::vector<u8> bytes(size & ~u64{7});
  const memory::Some some = memory::read_some(space, from, std::span<u8>(bytes));
  const ByteView b(bytes.data(), some.size);
  for (u64 at = 0; at + 8 <= b.size(); at += 8) out.push_back({from + at, VirtAddr(b.at<u64>(at))});
}

}  // namespace

std::vector<StackWord> kernel_stack_words(const World& world, const ThreadNode& t) {
  std::vector<StackWord> out;
  VirtAddr sp = t.thread.kernel_stack;
  if (t.on_cpu()) {
    // Its saved stack pointer is an old one. In user mode the kernel stack is empty.
    if (t.stack.frames.empty() || !is_kernel(t.stack.frames.front().sp)) return out;
    sp = t.stack.frames.front().sp;
  }
  if (sp < t.thread.stack_limit || sp >= t.thread.stack_base) return out;
  append(world.target().kernel(), VirtAddr(sp.value() & ~u64{7}),
         std::min(t.thread.stack_base - sp, kMostKernelStack), out);
  return out;
}

std::vector<StackWord> user_stack_words(const World& world, const ThreadNode& t) {
  std::vector<StackWord> out;
  const ProcessNode* p = world.process_of(t);
  if (!t.stack.user_registers || p == nullptr) return out;
  const stack::Registers& r = *t.stack.user_registers;
  for (size_t i = 0; i < r.gpr.size(); i++)
    if (i != dump::rsp && r.gpr[i] != 0) out.push_back({VirtAddr(), VirtAddr(r.gpr[i])});
  append(world.target().space(p->process.dtb), VirtAddr(r.gpr[dump::rsp] & ~u64{7}), kMostUserStack, out);
  return out;
}

std::vector<std::vector<Reference>> find_references(const World& world, const std::vector<Range>& ranges) {
  std::vector<std::vector<Reference>> found(ranges.size());
  if (ranges.empty()) return found;
  std::vector<size_t> order(ranges.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ranges[a].low < ranges[b].low; });
  // The highest end of the ranges so far: where to stop looking back among overlapping ones.
  std::vector<VirtAddr> reach(order.size());
  for (size_t i = 0; i < order.size(); i++)
    reach[i] = i == 0 ? ranges[order[i]].high : std::max(reach[i - 1], ranges[order[i]].high);
  for (const ThreadNode& t : world.threads) {
    if (t.idle_thread) continue;
    for (const StackWord& w : kernel_stack_words(world, t)) {
      if (!is_kernel(w.value)) continue;
      size_t i =
          static_cast<size_t>(std::upper_bound(order.begin(), order.end(), w.value,
                                               [&](VirtAddr v, size_t n) { return v < ranges[n].low; }) -
                              order.begin());
      while (i-- > 0 && w.value < reach[i]) {
        const Range& r = ranges[order[i]];
        const bool own = r.low >= t.thread.stack_limit && r.low < t.thread.stack_base;
        if (w.value < r.high && !own) found[order[i]].push_back({t.thread.address, w.at});
      }
    }
  }
  return found;
}

}  // namespace unhang::waits
