// r: registers as the debugger prints them, then those that no CONTEXT has.
#include <array>

#include "report/shapes/shape.h"
#include "report/text.h"

namespace unhang::report {

namespace {

// One line of those that are known; nothing when none is.
void row(const Node& r, Text& out, std::initializer_list<const char*> names, int digits = 16) {
  std::string s;
  for (const char* name : names) {
    const Node& v = r.get(name);
    if (!v.is_null())
      s += fmt::format("{}{}={:0{}x}", s.empty() ? "" : " ", name, v.as_address().value(), digits);
  }
  if (!s.empty()) out.raw(s);
}

// "iopl=0         nv up ei pl zr na po nc": the flags in the debugger's two-letter words.
std::string flags(u64 efl) {
  struct Flag {
    int bit;
    const char *clear, *set;
  };
  static constexpr std::array<Flag, 8> kFlags{{{11, "nv", "ov"},
                                               {10, "up", "dn"},
                                               {9, "di", "ei"},
                                               {7, "pl", "ng"},
                                               {6, "nz", "zr"},
                                               {4, "na", "ac"},
                                               {2, "po", "pe"},
                                               {0, "nc", "cy"}}};
  std::string s = fmt::format("iopl={}        ", efl >> 12 & 3);
  for (const Flag& f : kFlags) s += fmt::format(" {}", (efl >> f.bit & 1) != 0 ? f.set : f.clear);
  return s;
}

void print(const Node& n, Text& out) {
  const Node& r = n.get("registers");
  if (n.get("processor").is_null()) {
    out.line("Thread {:016x} is not running: what it saved when it was switched out.",
             n.get("thread").as_address().value());
    row(r, out, {"rip", "rsp"});
    out.line("{}:", n.get("symbol").as_text());
    return;
  }
  out.line("Processor {}, thread {:016x} (from: {})", n.get("processor").as_u64(),
           n.get("thread").as_address().value(), n.get("from").as_text());
  row(r, out, {"rax", "rbx", "rcx"});
  row(r, out, {"rdx", "rsi", "rdi"});
  row(r, out, {"rip", "rsp", "rbp"});
  const auto general = [&](std::initializer_list<const char*> names) {
    std::string s;
    for (const char* name : names)
      s += fmt::format("{}{:>3}={:016x}", s.empty() ? "" : " ", name, r.get(name).as_address().value());
    out.raw(s);
  };
  general({"r8", "r9", "r10"});
  general({"r11", "r12", "r13"});
  general({"r14", "r15"});
  out.raw(flags(r.get("efl").as_address().value()));
  row(r, out, {"cs", "ss", "ds", "es", "fs", "gs"}, 4);
  row(r, out, {"efl"}, 8);
  if (!n.get("symbol").as_text().empty()) out.line("{}:", n.get("symbol").as_text());
  row(r, out, {"cr0", "cr2", "cr3"});
  row(r, out, {"cr4", "cr8"});
  row(r, out, {"fs_base", "gs_base"});
  row(r, out, {"kernel_gs_base"});
  row(r, out, {"gdtr", "idtr"});
  row(r, out, {"gdtl", "idtl", "tr", "ldtr"}, 4);
  row(r, out, {"efer", "star", "lstar"});
  row(r, out, {"cstar", "fmask"});
  row(r, out, {"dr0", "dr1", "dr2"});
  row(r, out, {"dr3", "dr6", "dr7"});
  row(r, out, {"mxcsr"}, 8);
  const auto& xmm = r.get("xmm").items();
  for (size_t i = 0; i < xmm.size(); i++) out.line("{:>5}={}", fmt::format("xmm{}", i), xmm[i].as_text());
  if (!r.get("halted").is_null()) out.line("halted={}", r.get("halted").as_bool() ? "yes" : "no");
  if (r.get("hyperv_crash").empty()) return;
  std::string s = "Hyper-V crash MSRs:";
  for (const Node& p : r.get("hyperv_crash").items()) s += fmt::format(" {}", p.as_address());
  out.raw(s);
}

}  // namespace

extern const Shape registers_shape;
const Shape registers_shape{.name = "registers", .print = print};

}  // namespace unhang::report
