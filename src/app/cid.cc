#include "app/cid.h"

#include "app/expression.h"

namespace unhang::app {

Result<VirtAddr> process_of(Session& session, std::string_view word) {
  const VirtAddr va = TRY(evaluate(session, word));
  if (is_kernel(va)) return va;
  for (const VirtAddr p : nt::list_processes(session.target()).processes)
    if (const auto read = nt::read_process(session.target(), p); read && read->pid == va.value()) return p;
  return fail(Why::unsupported, "no process with that PID (numbers are hexadecimal; 0n and digits: decimal)");
}

Result<VirtAddr> thread_of(Session& session, std::string_view word) {
  const VirtAddr va = TRY(evaluate(session, word));
  if (is_kernel(va)) return va;
  // The idle threads are all called 0.
  for (const waits::ThreadNode& t : session.world().threads)
    if (!va.is_null() && t.thread.tid == va.value()) return t.thread.address;
  return fail(Why::unsupported, "no thread with that TID (numbers are hexadecimal; 0n and digits: decimal)");
}

}  // namespace unhang::app
