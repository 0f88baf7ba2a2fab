#include "app/stack_command.h"

#include "app/cid.h"
#include "app/views/view.h"

namespace unhang::app {

Result<Node> show_stack(Session& session, const std::vector<std::string>& args, bool home_words) {
  const VirtAddr va = args.empty() ? session.current_thread() : TRY(thread_of(session, args[0]));
  const nt::Thread t = TRY(nt::read_thread(session.target(), va));
  const stack::ThreadStack s = session.stacks().make(t);
  Node n = Node::shaped("stack");
  n["thread"] = va;
  // User frames are in the thread's own process, whichever was chosen last.
  const u64 dtb = nt::Object(session.target(), t.process).value_or(nt::KPROCESS::DirectoryTableBase, 0);
  n["stack"] = stack_node(s, home_words ? &session.target().space(PhysAddr(dtb).page()) : nullptr);
  n["stack_from"] = s.start;
  n["stack_end"] = s.user_end.empty() ? s.kernel_end : s.user_end;
  return n;
}

}  // namespace unhang::app
