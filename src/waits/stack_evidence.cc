#include "waits/stack_evidence.h"

#include <algorithm>

#include "nt/objects/cpu.h"

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

// Stacks in use by the processor that a thread is current on, innermost first: deferred procedures and
// interrupts have their own. Its saved stack pointer is an old one; in user mode the kernel stack is empty.
std::vector<Range> stacks_on_cpu(const World& world, const ThreadNode& t) {
  std::vector<VirtAddr> ends;
  for (const nt::Cpu& cpu : world.target().cpus())
    if (cpu.number == *t.cpu) ends = nt::interrupt_stacks(world.target(), cpu);
  ends.push_back(t.thread.stack_base);
  std::vector<Range> out;
  for (const stack::Frame& f : t.stack.frames) {
    if (!is_kernel(f.sp)) break;
    if (!out.empty() && f.sp >= out.back().low && f.sp < out.back().high) continue;
    // Of a stack whose end is not known: the rest of the page.
    VirtAddr end = f.sp + f.sp.left_in_page();
    for (const VirtAddr e : ends)
      if (e > f.sp && e - f.sp <= kMostKernelStack) end = e;
    if (f.sp >= t.thread.stack_limit && f.sp < t.thread.stack_base) end = t.thread.stack_base;
    out.push_back({f.sp, end});
  }
  return out;
}

}  // namespace

std::vector<StackWord> kernel_stack_words(const World& world, const ThreadNode& t) {
  std::vector<StackWord> out;
  std::vector<Range> stacks;
  if (t.on_cpu())
    stacks = stacks_on_cpu(world, t);
  else if (t.thread.kernel_stack >= t.thread.stack_limit && t.thread.kernel_stack < t.thread.stack_base)
    stacks.push_back({t.thread.kernel_stack, t.thread.stack_base});
  for (const Range& s : stacks)
    append(world.target().kernel(), VirtAddr(s.low.value() & ~u64{7}),
           std::min(s.high - s.low, kMostKernelStack), out);
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

std::vector<StackWord> user_stack_words32(const World& world, const ThreadNode& t) {
  std::vector<StackWord> out;
  const ProcessNode* p = world.process_of(t);
  if (!t.stack.user_registers32 || p == nullptr) return out;
  const stack::Registers32& r = *t.stack.user_registers32;
  for (const u32 value : {r.ebx, r.esi, r.edi, r.ebp})
    if (value != 0) out.push_back({VirtAddr(), VirtAddr(value)});
  const VirtAddr from(r.esp & ~u32{3});
  std::vector<u8> bytes(kMostUserStack);
  const memory::Some some =
      memory::read_some(world.target().space(p->process.dtb), from, std::span<u8>(bytes));
  const ByteView b(bytes.data(), some.size);
  for (u64 at = 0; at + 4 <= b.size(); at += 4) out.push_back({from + at, VirtAddr(b.at<u32>(at))});
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
