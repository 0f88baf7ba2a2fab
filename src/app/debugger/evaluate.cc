// ? expression: its value.
#include "app/command.h"
#include "app/expression.h"
#include "app/lines.h"
#include "base/format.h"

namespace unhang::app {

namespace {

Result<Node> run(Session& session, const std::vector<std::string>& args) {
  std::string expression;
  for (const std::string& a : args) expression += a + ' ';
  const u64 value = TRY(evaluate(session, expression)).value();
  Node n = lines_node();
  n["value"] = VirtAddr(value);
  add_line(n, fmt::format("Evaluate expression: {} = {}", static_cast<i64>(value), VirtAddr(value)));
  return n;
}

}  // namespace

extern const DebuggerCommand evaluate_debugger_command;
const DebuggerCommand evaluate_debugger_command{
    .names = {"?"},
    .usage = "? EXPRESSION",
    .help = "the value of an expression: nt!Name+8, poi(...), @rsp",
    .run = run};

}  // namespace unhang::app
