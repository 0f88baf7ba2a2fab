// !pte address: the page-table entries of an address.
#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "base/format.h"

namespace unhang::app {

namespace {

std::string flags(u64 e) {
  if ((e & 1) == 0)
    return (e & (1 << 10)) != 0   ? "not valid, prototype"
           : (e & (1 << 11)) != 0 ? "not valid, transition"
           : e == 0               ? "not valid"
                                  : "not valid, page file";
  std::string s;
  s += (e & (1 << 9)) != 0 ? 'C' : '-';
  s += (e & (1 << 8)) != 0 ? 'G' : '-';
  s += (e & (1 << 7)) != 0 ? 'L' : '-';
  s += (e & (1 << 6)) != 0 ? 'D' : '-';
  s += (e & (1 << 5)) != 0 ? 'A' : '-';
  s += (e & (1 << 4)) != 0 ? 'N' : '-';
  s += (e & (1 << 3)) != 0 ? 'T' : '-';
  s += (e & (1 << 2)) != 0 ? 'U' : 'K';
  s += (e & (1 << 1)) != 0 ? 'W' : 'R';
  s += (e >> 63) != 0 ? '-' : 'E';
  s += 'V';
  return s;
}

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs an address"});
  const VirtAddr va = TRY(evaluate(session, args[0]));
  const auto* space = dynamic_cast<const memory::AddressSpace*>(&session.space(va));
  if (space == nullptr)
    return fail(Error{.why = Why::unsupported, .detail = "this dump holds no page tables"});
  const memory::Walk walk = space->walk(va);
  static constexpr const char* kNames[] = {"", "PTE", "PDE", "PPE", "PXE", "P5E"};
  Node n = lines_node();
  n["va"] = va;
  const auto add = [&](std::string s) -> Node& { return add_line(n, std::move(s)); };
  add(fmt::format("                                           VA {}", va));
  for (const memory::Step& s : walk.steps) {
    Node& line =
        add(fmt::format("{} at physical {:#014x}    contains {:016X}    pfn {:<8x} {}", kNames[s.level],
                        s.entry_pa.value(), s.entry, (s.entry & 0xffffffffff000) >> 12, flags(s.entry)));
    line["level"] = kNames[s.level];
    line["entry_pa"] = VirtAddr(s.entry_pa.value());
    line["entry"] = VirtAddr(s.entry);
  }
  if (walk.mapping)
    n["pa"] = VirtAddr(walk.mapping->pa.value());
  else
    n["note"] = "*** " + text(walk.mapping.error());
  return n;
}

}  // namespace

extern const DebuggerCommand pte_debugger_command;
const DebuggerCommand pte_debugger_command{
    .names = {"!pte"}, .usage = "!pte ADDRESS", .help = "the page-table entries of an address", .run = run};

}  // namespace unhang::app
