// !vtop dtb address: a virtual address to a physical one, and to the place in the dump file.
#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty())
    return fail(
        Error{.why = Why::unsupported, .detail = "it needs an address, or page tables and an address"});
  const VirtAddr va = TRY(evaluate(session, args.back()));
  const Source<VirtAddr>* chosen = &session.space(va);
  // A page directory of 0 stands for the current process, as in the debugger.
  if (args.size() > 1)
    if (const VirtAddr dtb = TRY(evaluate(session, args[0])); !dtb.is_null())
      chosen = &session.target().space(PhysAddr(dtb.value()));
  const auto* space = dynamic_cast<const memory::AddressSpace*>(chosen);
  if (space == nullptr)
    return fail(Error{.why = Why::unsupported, .detail = "this dump holds no page tables"});
  const memory::Mapping m = TRY(space->translate(va));
  Node n = lines_node();
  n["va"] = va;
  n["pa"] = VirtAddr(m.pa.value());
  n["page_size"] = m.page_size;
  const char* via = m.via == memory::Via::valid        ? "valid entry"
                    : m.via == memory::Via::transition ? "transition entry: the page is in RAM"
                                                       : "prototype entry";
  n["via"] = via;
  const auto offset = session.target().physical()->file_offset(m.pa);
  n["file_offset"] = offset ? Node(VirtAddr(*offset)) : Node();
  Node line = Node::map();
  line["text"] =
      fmt::format("Virtual address {} translates to physical address {:x} ({} page, {}){}", va, m.pa.value(),
                  m.page_size == kPageSize        ? "4 KiB"
                  : m.page_size == (u64{2} << 20) ? "2 MiB"
                                                  : "1 GiB",
                  via, offset ? fmt::format(", at {:#x} in the dump", *offset) : ", not in the dump");
  n["lines"].add(std::move(line));
  return n;
}

}  // namespace

extern const DebuggerCommand vtop_debugger_command;
const DebuggerCommand vtop_debugger_command{
    .names = {"!vtop"}, .usage = "!vtop [DTB] ADDRESS", .help = "virtual to physical address", .run = run};

}  // namespace unhang::app
