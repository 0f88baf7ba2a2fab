#include "app/session.h"

namespace unhang::app {

waits::World& Session::world() {
  if (!world_) world_ = std::make_unique<waits::World>(*target_);
  return *world_;
}

const nt::ObjectManager& Session::objects() {
  if (world_) return world_->objects();
  if (!objects_) objects_ = std::make_unique<nt::ObjectManager>(*target_);
  return *objects_;
}

stack::StackMaker& Session::stacks() {
  if (world_) return world_->stacks();
  if (!stacks_) stacks_ = std::make_unique<stack::StackMaker>(*target_);
  return *stacks_;
}

const nt::Clock& Session::clock() {
  if (!clock_) clock_ = nt::read_clock(*target_);
  return *clock_;
}

VirtAddr Session::current_thread() const {
  if (!thread_.is_null()) return thread_;
  // The processor that wrote a crash dump is the interesting one; else the first.
  for (const nt::Cpu& cpu : target_->cpus())
    if (cpu.state_from == "Windows dump header") return cpu.current_thread;
  for (const nt::Cpu& cpu : target_->cpus())
    if (is_kernel(cpu.current_thread)) return cpu.current_thread;
  return {};
}

VirtAddr Session::current_process() const {
  if (!process_.is_null()) return process_;
  const nt::Object t(*target_, current_thread());
  if (const auto attached = t.maybe(nt::KTHREAD::AttachedProcess); attached && is_kernel(*attached))
    return *attached;
  return t.value_or(nt::KTHREAD::Process, {});
}

const Source<VirtAddr>& Session::space(VirtAddr va) const {
  if (is_kernel(va)) return target_->kernel();
  const nt::Object p(*target_, current_process());
  return target_->space(PhysAddr(p.value_or(nt::KPROCESS::DirectoryTableBase, 0)).page());
}

}  // namespace unhang::app
