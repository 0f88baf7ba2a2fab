// x module!pattern: symbols by name.
#include "app/command.h"
#include "app/lines.h"
#include "app/wildcard.h"
#include "base/format.h"

namespace unhang::app {

namespace {

constexpr size_t kMostShown = 10000;

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs a pattern: nt!Ki*"});
  const auto mark = args[0].find('!');
  const std::string module = mark == std::string::npos ? "nt" : args[0].substr(0, mark);
  const std::string pattern = mark == std::string::npos ? args[0] : args[0].substr(mark + 1);
  Node n = lines_node();
  bool any = false;
  for (const auto& m : session.target().modules().all()) {
    if (!wildcard_match(module, m->name())) continue;
    any = true;
    const nt::Module* opened = session.target().module_at(m->base());
    auto add = [&](std::string_view name, Rva rva) {
      if (!wildcard_match(pattern, name)) return true;
      Node line = Node::map();
      line["address"] = m->base() + rva.value();
      line["symbol"] = fmt::format("{}!{}", m->name(), name);
      line["text"] = fmt::format("{} {}!{}", m->base() + rva.value(), m->name(), name);
      n["lines"].add(std::move(line));
      return n["lines"].size() < kMostShown;
    };
    if (opened == nullptr) continue;
    if (opened->symbols() != nullptr) {
      opened->symbols()->for_each_symbol([&](const symbols::Symbol& s) { return add(s.name, s.rva); });
    } else if (opened->image() != nullptr) {
      for (const image::Export& e : opened->image()->exports())
        if (!add(e.name, e.rva)) break;
    }
  }
  if (!any) return fail(Error{.why = Why::unsupported, .detail = "no module of that name"});
  if (n["lines"].empty()) n["note"] = "No symbol of that name; `lm` shows which modules have symbols.";
  if (n["lines"].size() >= kMostShown) n["note"] = "*** stopped after 10000 symbols";
  return n;
}

}  // namespace

extern const DebuggerCommand x_debugger_command;
const DebuggerCommand x_debugger_command{
    .names = {"x"}, .usage = "x MODULE!PATTERN", .help = "symbols whose names match", .run = run};

}  // namespace unhang::app
