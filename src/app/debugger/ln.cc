// ln address: the nearest symbols.
#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs an address"});
  const VirtAddr va = TRY(evaluate(session, args[0]));
  const nt::Module* m = session.target().module_at(va);
  if (m == nullptr)
    return fail(Error{.why = Why::no_symbol, .va = va, .detail = "the address is in no module"});
  Node n = lines_node();
  Node line = Node::map();
  line["address"] = va;
  line["symbol"] = session.target().symbolize(va);
  std::string text;
  const Rva rva(va - m->base());
  if (m->symbols() != nullptr) {
    const auto at = m->symbols()->symbol_at(rva);
    const auto after = m->symbols()->symbol_after(rva);
    const auto part = [&](const symbols::Symbol& s) {
      const std::string offset = s.rva < rva ? fmt::format("+{:#x}", rva - s.rva) : "";
      return fmt::format("({})   {}!{}{}", m->base() + s.rva.value(), m->name(), s.name, offset);
    };
    text = fmt::format("{}   |  {}", at ? part(*at) : "", after ? part(*after) : "");
  } else {
    text = fmt::format("({})   {}", va, session.target().symbolize(va));
  }
  line["text"] = text;
  n["lines"].add(std::move(line));
  return n;
}

}  // namespace

extern const DebuggerCommand ln_debugger_command;
const DebuggerCommand ln_debugger_command{
    .names = {"ln"}, .usage = "ln ADDRESS", .help = "the nearest symbols", .run = run};

}  // namespace unhang::app
