#include "app/memory_command.h"

#include <span>

#include "app/expression.h"
#include "app/lines.h"
#include "base/bytes.h"
#include "base/format.h"
#include "base/utf.h"
#include "memory/read.h"

namespace unhang::app {

namespace {

constexpr u64 kMostItems = 0x10000;
constexpr u64 kMostCharacters = 512, kCharactersPerLine = 32;

// "L20", or an end address.
Result<u64> count_of(Session& session, const std::vector<std::string>& args, VirtAddr start, u64 unit,
                     u64 otherwise) {
  if (args.size() < 2) return otherwise;
  const std::string& a = args[1];
  u64 n = 0;
  if (a.size() > 1 && (a[0] == 'L' || a[0] == 'l'))
    n = TRY(evaluate(session, a.substr(1))).value();
  else
    n = (TRY(evaluate(session, a)) - start) / unit + 1;
  if (n == 0 || n > kMostItems)
    return fail(Error{.why = Why::limit, .va = start, .detail = "the range is empty or too long"});
  return n;
}

std::string item(const memory::Sparse& m, u64 at, u64 unit) {
  if (!m.has(at, unit))
    return std::string(unit * 2, '?').insert(unit == 8 ? 8 : unit * 2, unit == 8 ? "`" : "");
  const ByteView b(m.bytes);
  switch (unit) {
    case 1:
      return fmt::format("{:02x}", b.at<u8>(at));
    case 4:
      return fmt::format("{:08x}", b.at<u32>(at));
    default:
      return fmt::format("{}", VirtAddr(b.at<u64>(at)));
  }
}

std::string characters(const memory::Sparse& m, u64 from, u64 to) {
  std::string s;
  for (u64 i = from; i < to; i++) {
    const char c = static_cast<char>(m.bytes[i]);
    s += !m.has(i, 1) ? '?' : c >= 0x20 && c < 0x7f ? c : '.';
  }
  return s;
}

}  // namespace

Result<Node> show_memory(Session& session, const std::vector<std::string>& args, u64 unit, Beside beside) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs an address"});
  const VirtAddr start = TRY(evaluate(session, args[0]));
  const bool symbols = beside == Beside::symbols;
  const u64 count = TRY(count_of(session, args, start, unit, symbols ? 16 : 128 / unit));
  const memory::Sparse m = memory::read_sparse(session.space(start), start, count * unit);
  Node n = lines_node();
  n["address"] = start;
  const u64 per_line = symbols ? 1 : unit == 1 ? 16 : 16 / unit;
  for (u64 i = 0; i < count; i += per_line) {
    std::string text = fmt::format("{} ", start + i * unit);
    Node line = Node::map();
    line["address"] = start + i * unit;
    line["values"] = Node::list();
    for (u64 j = i; j < std::min(count, i + per_line); j++) {
      text += (unit == 1 && j % 16 == 8 ? "-" : " ") + item(m, j * unit, unit);
      line["values"].add(m.has(j * unit, unit)
                             ? Node(fmt::format("0x{}", item(m, j * unit, unit == 8 ? 8 : unit)))
                             : Node());
    }
    if (beside == Beside::characters)
      text += "  " + characters(m, i * unit, std::min(count, i + per_line) * unit);
    if (symbols && m.has(i * unit, 8)) {
      const std::string symbol = session.target().symbolize(VirtAddr(ByteView(m.bytes).at<u64>(i * unit)));
      if (!symbol.empty()) {
        text += " " + symbol;
        line["symbol"] = symbol;
      }
    }
    line["text"] = std::move(text);
    n["lines"].add(std::move(line));
  }
  if (!m.holes.empty()) n["note"] = fmt::format("*** {}", text(m.holes.front().error));
  return n;
}

Result<Node> show_text(Session& session, const std::vector<std::string>& args, u64 unit) {
  if (args.empty()) return fail(Error{.why = Why::unsupported, .detail = "it needs an address"});
  const VirtAddr start = TRY(evaluate(session, args[0]));
  const u64 count = TRY(count_of(session, args, start, unit, kMostCharacters));
  const memory::Sparse m = memory::read_sparse(session.space(start), start, count * unit);
  if (!m.has(0, unit)) return fail(m.holes.front().error);
  const auto character = [&](u64 i) { return unit == 1 ? m.bytes[i] : ByteView(m.bytes).at<u16>(i * 2); };
  u64 length = 0;
  while (length < count && m.has(length * unit, unit) && character(length) != 0) length++;
  const bool cut = length < count && !m.has(length * unit, unit);
  Node n = lines_node();
  n["address"] = start;
  std::string whole;
  for (u64 i = 0; i < std::max<u64>(length, 1); i += kCharactersPerLine) {
    const auto bytes =
        std::span<const u8>(m.bytes).subspan(i * unit, std::min(length - i, kCharactersPerLine) * unit);
    const std::string line =
        unit == 2 ? utf16_to_utf8(bytes) : printable(std::string(bytes.begin(), bytes.end()));
    add_line(n, fmt::format("{}  \"{}\"", start + i * unit, line));
    whole += line;
  }
  n["value"] = std::move(whole);
  if (cut) n["note"] = fmt::format("*** {}", text(m.holes.front().error));
  return n;
}

}  // namespace unhang::app
