#include "app/views/view.h"
#include "base/format.h"

namespace unhang::app {

Node process_node(Session& session, const nt::Process& p, ProcessParts parts) {
  Node n = Node::shaped("process");
  n["address"] = p.address;
  n["name"] = p.name;
  n["pid"] = p.pid;
  n["parent_pid"] = p.parent_pid;
  n["session"] = p.session ? Node(*p.session) : Node();
  n["peb"] = p.peb;
  n["dtb"] = VirtAddr(p.dtb.value());
  n["object_table"] = p.object_table;
  u64 handles = 0;
  if (is_kernel(p.object_table)) handles = session.objects().handles(p.object_table).handles.size();
  n["handles"] = handles;
  n["path"] = p.path.empty() ? Node() : Node(p.path);
  n["command_line"] = p.command_line.empty() ? Node() : Node(p.command_line);
  n["threads"] = u64{p.threads.size()};
  if (parts.details) {
    n["token"] = p.token;
    n["create_time"] = time_node(p.create_time);
    n["exit_time"] = time_node(p.exit_time);
    n["user_time_ms"] = session.clock().ms(p.user_ticks);
    n["kernel_time_ms"] = session.clock().ms(p.kernel_ticks);
    n["base_priority"] = p.base_priority;
    n["commit_pages"] = p.commit_pages;
    n["details"] = true;
  }
  if (parts.threads) {
    n["thread_list"] = Node::list();
    for (const VirtAddr va : p.threads) {
      const auto t = nt::read_thread(session.target(), va);
      if (t) {
        n["thread_list"].add(thread_node(session, *t, parts.thread));
      } else {
        Node bad = Node::map();
        bad["address"] = va;
        bad["error"] = text(t.error());
        n["thread_list"].add(std::move(bad));
      }
    }
  }
  n["gaps"] = gaps_node(p.gaps);
  return n;
}

}  // namespace unhang::app
