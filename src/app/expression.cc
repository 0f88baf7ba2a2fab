#include "app/expression.h"

#include <charconv>

#include "app/registers.h"
#include "memory/read.h"

namespace unhang::app {

namespace {

std::unexpected<Error> bad(const char* detail) {
  return fail(Error{.why = Why::unsupported, .detail = detail});
}

class Parser {
 public:
  Parser(Session& session, std::string_view text) : session_(session), text_(text) {}

  Result<u64> parse() {
    const u64 v = TRY(sum(0));
    skip();
    if (!text_.empty()) return bad("not an address or expression");
    return v;
  }

 private:
  void skip() {
    while (!text_.empty() && text_.front() == ' ') text_.remove_prefix(1);
  }
  bool take(char c) {
    skip();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  Result<u64> sum(int depth) {
    if (depth > 32) return bad("the expression is nested too deeply");
    u64 v = TRY(term(depth));
    for (;;) {
      if (take('+'))
        v += TRY(term(depth));
      else if (take('-'))
        v -= TRY(term(depth));
      else
        return v;
    }
  }

  Result<u64> term(int depth) {
    skip();
    if (take('(')) {
      const u64 v = TRY(sum(depth + 1));
      if (!take(')')) return bad("a bracket is not closed");
      return v;
    }
    if (text_.starts_with("poi(")) {
      text_.remove_prefix(4);
      const VirtAddr at(TRY(sum(depth + 1)));
      if (!take(')')) return bad("a bracket is not closed");
      return memory::read<u64>(session_.space(at), at);
    }
    const size_t end = std::min(text_.find_first_of("+-() "), text_.size());
    const std::string_view word = text_.substr(0, end);
    text_.remove_prefix(end);
    if (word.empty()) return bad("not an address or expression");
    if (word == "@$thread") return session_.current_thread().value();
    if (word == "@$proc") return session_.current_process().value();
    if (word.front() == '@') {
      const auto value = TRY(current_registers(session_)).find(word.substr(1));
      if (!value) return bad("no such register");
      return *value;
    }
    if (const auto n = number(word)) return *n;
    return symbol(word);
  }

  static std::optional<u64> number(std::string_view word) {
    int base = 16;
    if (word.starts_with("0x") || word.starts_with("0X")) {
      word.remove_prefix(2);
    } else if (word.starts_with("0n")) {
      word.remove_prefix(2);
      base = 10;
    }
    std::string digits;
    for (char c : word)
      if (c != '`') digits += c;
    u64 v = 0;
    const auto [p, e] = std::from_chars(digits.data(), digits.data() + digits.size(), v, base);
    if (e != std::errc() || p != digits.data() + digits.size() || digits.empty()) return std::nullopt;
    return v;
  }

  Result<u64> symbol(std::string_view word) {
    const auto mark = word.find('!');
    const std::string_view module = mark == word.npos ? "nt" : word.substr(0, mark);
    const std::string name(mark == word.npos ? word : word.substr(mark + 1));
    if (module == "nt")
      if (const auto va = session_.target().symbol(name.c_str())) return va->value();
    const nt::Module* m = session_.target().modules().find_name(module);
    if (m != nullptr && name.empty()) return m->base().value();
    if (m != nullptr)
      if (const nt::Module* opened = session_.target().module_at(m->base()))
        if (const auto va = opened->find(name)) return va->value();
    // A module's name alone is its base.
    if (const nt::Module* named = session_.target().modules().find_name(word)) return named->base().value();
    return bad(m != nullptr && mark != word.npos ? "not an address, and no symbol of that module"
                                                 : "not an address, and no symbol or module of that name");
  }

  Session& session_;
  std::string_view text_;
};

}  // namespace

Result<VirtAddr> evaluate(Session& session, std::string_view expression) {
  return VirtAddr(TRY(Parser(session, expression).parse()));
}

}  // namespace unhang::app
