#include "app/command.h"
#include "debugger.plugs.h"

namespace unhang::app {

namespace {

// Words of a line; quotes keep spaces together.
std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  bool quoted = false, any = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
      any = true;
    } else if (c == ' ' && !quoted) {
      if (any || !word.empty()) words.push_back(word);
      word.clear();
      any = false;
    } else {
      word += c;
    }
  }
  if (any || !word.empty()) words.push_back(word);
  return words;
}

const DebuggerCommand* find_command(std::string_view name) {
  for (const DebuggerCommand* c : kDebuggerCommands)
    for (const char* n : c->names)
      if (name == n) return c;
  return nullptr;
}

}  // namespace

Result<Node> run_line(Session& session, const std::string& line) {
  std::vector<std::string> words = words_of(line);
  if (words.empty()) return Node::map();
  // "~1": the number is part of the word.
  if (words.front().starts_with('~')) words.assign({"~", words.front().substr(1)});
  const DebuggerCommand* command = find_command(words.front());
  if (command == nullptr)
    return fail(Error{.why = Why::unsupported, .detail = "no such command; `unhang run --help` lists them"});
  words.erase(words.begin());
  return command->run(session, words);
}

}  // namespace unhang::app
