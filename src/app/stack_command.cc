#include "app/stack_command.h"

#include "app/expression.h"
#include "app/views/view.h"

namespace unhang::app {

Result<Node> show_stack(Session& session, const std::vector<std::string>& args, bool home_words) {
  const VirtAddr va = args.empty() ? session.current_thread() : TRY(evaluate(session, args[0]));
  const nt::Thread t = TRY(nt::read_thread(session.target(), va));
  const stack::ThreadStack s = session.stacks().make(t);
  Node n = Node::shaped("stack");
  n["thread"] = va;
  n["stack"] = stack_node(session, s, home_words);
  n["stack_from"] = s.start;
  n["stack_end"] = s.user_end.empty() ? s.kernel_end : s.user_end;
  return n;
}

}  // namespace unhang::app
