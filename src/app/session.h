// What a run of the program works on: one target, and what commands share and make only when they need it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "nt/target.h"
#include "waits/world.h"

namespace unhang::app {

class Session {
 public:
  explicit Session(std::unique_ptr<nt::Target> target) : target_(std::move(target)) {}

  const nt::Target& target() const { return *target_; }
  // Everything read once; for commands that look at the whole machine.
  waits::World& world();
  const nt::ObjectManager& objects();
  stack::StackMaker& stacks();
  const nt::Clock& clock();

  // The thread that `k`, `!thread` without an argument and user addresses refer to. Null until one is chosen:
  // then the current thread of processor 0.
  VirtAddr current_thread() const;
  void set_thread(VirtAddr thread) { thread_ = thread; }
  // The process whose user addresses commands read: that of the current thread unless one is chosen.
  VirtAddr current_process() const;
  void set_process(VirtAddr process) { process_ = process; }
  // Kernel addresses through the kernel's space, user addresses through the current process's.
  const Source<VirtAddr>& space(VirtAddr va) const;

 private:
  std::unique_ptr<nt::Target> target_;
  std::unique_ptr<waits::World> world_;
  std::unique_ptr<nt::ObjectManager> objects_;
  std::unique_ptr<stack::StackMaker> stacks_;
  std::optional<nt::Clock> clock_;
  VirtAddr thread_{};
  VirtAddr process_{};
};

}  // namespace unhang::app
