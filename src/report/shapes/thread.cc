// !thread, as WinDbg prints it (WINDOWS 1.1).
#include "report/shapes/shape.h"
#include "report/text.h"

namespace unhang::report {

namespace {

void print_waits(const Node& n, Text& out) {
  for (const Node& w : n.get("waits_on").items()) {
    std::string s = fmt::format("    {:016x}  {}", w.get("object").as_u64(), w.get("kind").as_text());
    if (const Node* limit = w.find("limit")) s += fmt::format(" Limit {:#x}", limit->as_u64());
    if (const Node* owner = w.find("owner")) s += fmt::format(" - owning thread {:x}", owner->as_u64());
    out.raw(s);
  }
}

void print_alpc(const Node& n, Text& out) {
  const Node* message = n.find("alpc_message");
  if (message == nullptr) return;
  out.line("Waiting for reply to ALPC Message {:016x} : queued at port {:016x} : owned by process {}",
           message->as_u64(), n.get("alpc_port").as_u64(),
           n.get("alpc_port_process").is_null()
               ? "?"
               : fmt::format("{:016x}", n.get("alpc_port_process").as_u64()));
}

void print_irps(const Node& n, Text& out) {
  if (n.get("irps").empty()) return;
  out.raw("IRP List:");
  for (const Node& i : n.get("irps").items()) {
    if (const Node* e = i.find("error"))
      out.line("    {:016x}: {}", i.get("address").as_u64(), e->as_text());
    else
      out.line("    {:016x}: (0006,{:04x}) Flags: {:08x}  Mdl: {:08x}", i.get("address").as_u64(),
               i.get("size").as_u64(), i.get("flags").as_u64(), i.get("mdl").as_u64());
  }
}

std::string state(const Node& n) {
  const std::string word(n.get("state_word").as_text());
  if (word == "WAIT")
    return fmt::format("WAIT: ({}) {} {}{}", n.get("wait_reason").as_text(), n.get("wait_mode").as_text(),
                       n.get("alertable").as_bool() ? "Alertable" : "Non-Alertable",
                       n.get("suspend_count").as_u64() == 0
                           ? ""
                           : fmt::format(" SuspendCount {}", n.get("suspend_count").as_u64()));
  if (word == "RUNNING")
    return n.get("cpu").is_null() ? "RUNNING (current on no processor)"
                                  : fmt::format("RUNNING on processor {:x}", n.get("cpu").as_u64());
  if (word == "READY" || word == "STANDBY")
    return fmt::format("{} on processor {:x}", word, n.get("next_processor").as_u64());
  return word;
}

std::string time(u64 ms) {
  const u64 s = ms / 1000;
  return fmt::format("{:02}:{:02}:{:02}.{:03}", s / 3600, s / 60 % 60, s % 60, ms % 1000);
}

// Ticks: 4 (0:00:00:00.062), as the debugger breaks them down.
std::string ticks(const Node& n) {
  if (n.get("ticks").is_null()) return "unknown";
  const u64 t = n.get("ticks").as_u64(), ms = n.get("ticks_ms").as_u64(), s = ms / 1000;
  if (t == 0) return "0";
  return fmt::format("{} ({}:{:02}:{:02}:{:02}.{:03})", t, s / 86400, s / 3600 % 24, s / 60 % 60, s % 60,
                     ms % 1000);
}

void print(const Node& n, Text& out) {
  if (const Node* e = n.find("error")) {
    out.line("THREAD {:016x}  {}", n.get("address").as_u64(), e->as_text());
    return;
  }
  out.line("THREAD {:016x}  Cid {:04x}.{:04x}  Teb: {:016x} Win32Thread: {:016x} {}",
           n.get("address").as_u64(), n.get("pid").as_u64(), n.get("tid").as_u64(), n.get("teb").as_u64(),
           n.get("win32_thread").as_u64(), state(n));
  if (n.find("waits_on") == nullptr && n.find("stack") == nullptr) return;
  print_waits(n, out);
  print_irps(n, out);
  print_alpc(n, out);
  out.line("Owning Process            {:016x}       Image:         {}", n.get("process_address").as_u64(),
           n.get("process").as_text());
  if (const Node* a = n.find("attached_process"))
    out.line("Attached Process          {:016x}       Image:         {}",
             n.get("attached_process_address").as_u64(), a->as_text());
  else
    out.raw("Attached Process          N/A            Image:         N/A");
  out.line("Wait Start TickCount      {:<14} Ticks: {}", n.get("wait_start_tick_count").as_u64(), ticks(n));
  out.line("Context Switch Count      {:<14} IdealProcessor: {}", n.get("context_switches").as_u64(),
           n.get("ideal_processor").as_u64());
  out.line("UserTime                  {}", time(n.get("user_time_ms").as_u64()));
  out.line("KernelTime                {}", time(n.get("kernel_time_ms").as_u64()));
  const u64 win32 = n.get("win32_start_address").as_u64();
  const u64 start = win32 != 0 ? win32 : n.get("start_address").as_u64();
  const std::string symbol(n.get("start_symbol").as_text());
  out.line("Win32 Start Address {}{}",
           symbol.find('!') != symbol.npos || symbol.find('+') != symbol.npos ? symbol + " " : "",
           symbol.find('!') != symbol.npos || symbol.find('+') != symbol.npos
               ? fmt::format("({:#018x})", start)
               : fmt::format("{:#018x}", start));
  out.line("Stack Init {:016x} Current {:016x}", n.get("initial_stack").as_u64(),
           n.get("kernel_stack").as_u64());
  out.line("Base {:016x} Limit {:016x} Call 0000000000000000", n.get("stack_base").as_u64(),
           n.get("stack_limit").as_u64());
  out.line("Priority {} BasePriority {} PriorityDecrement {}", n.get("priority").as_i64(),
           n.get("base_priority").as_i64(), n.get("priority_decrement").as_i64());
  if (n.find("stack") != nullptr) {
    print_stack(n.get("stack"), out);
    print_stack_end(n, out);
  }
}

}  // namespace

extern const Shape thread_shape;
const Shape thread_shape{.name = "thread", .print = print};

}  // namespace unhang::report
