#include <ctime>

#include "app/views/view.h"
#include "base/format.h"
#include "memory/read.h"

namespace unhang::app {

Node gap_node(const Gap& gap) {
  Node n = Node::map();
  n["what"] = gap.what;
  n["where"] = gap.where.empty() ? Node() : Node(gap.where);
  n["why"] = gap.why;
  return n;
}

Node gaps_node(const std::vector<Gap>& gaps) {
  Node list = Node::list();
  for (const Gap& g : gaps) list.add(gap_node(g));
  return list;
}

Node time_node(u64 filetime) {
  constexpr u64 kUnixEpoch = 116444736000000000;  // 1970 in 100 ns since 1601
  constexpr u64 kEnd = 2650467744000000000;       // the year 10000: beyond is damage
  if (filetime < kUnixEpoch || filetime >= kEnd) return {};
  const std::time_t seconds = static_cast<std::time_t>((filetime - kUnixEpoch) / 10'000'000);
  std::tm tm{};
  gmtime_r(&seconds, &tm);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                     tm.tm_hour, tm.tm_min, tm.tm_sec);
}

std::string hms(u64 ms) {
  const u64 s = ms / 1000;
  return fmt::format("{:02}:{:02}:{:02}.{:03}", s / 3600, s / 60 % 60, s % 60, ms % 1000);
}

Node stack_node(const stack::ThreadStack& stack, const Source<VirtAddr>* args) {
  Node list = Node::list();
  for (size_t i = 0; i < stack.frames.size(); i++) {
    const stack::Frame& f = stack.frames[i];
    Node n = Node::map();
    n["ip"] = f.ip;
    n["sp"] = f.sp;
    n["symbol"] = stack.symbols[i];
    n["trust"] = name(f.trust);
    if (!f.trap_frame.is_null()) n["trap_frame"] = f.trap_frame;
    // RetAddr as the debugger prints it: where this frame returns to.
    n["return_address"] = i + 1 < stack.frames.size() ? Node(stack.frames[i + 1].ip) : Node(VirtAddr());
    if (args != nullptr) {
      // The callee's home space lies right above its return address: this frame's first four parameters, if
      // its code saved them there.
      Node words = Node::list();
      const VirtAddr home = i + 1 < stack.frames.size() ? stack.frames[i + 1].sp : VirtAddr();
      for (u64 w = 0; w < 4; w++) {
        const auto v = home.is_null() ? Result<u64>(fail(Why::not_in_dump, nullptr))
                                      : memory::read<u64>(*args, home + w * 8);
        words.add(v ? Node(VirtAddr(*v)) : Node());
      }
      n["args"] = std::move(words);
    }
    list.add(std::move(n));
  }
  return list;
}

namespace {

Node dump_node(const dump::DumpFile& d, const dump::PageSource<PhysAddr>* physical, u64 cpu_count) {
  Node n = Node::map();
  n["path"] = d.file->path();
  n["format"] = d.format;
  n["description"] = d.description;
  n["size"] = d.file->size();
  n["cpu_count"] = cpu_count;
  u64 memory = 0;
  if (physical != nullptr)
    for (const auto& r : physical->ranges()) memory += r.size;
  n["physical_memory"] = physical != nullptr ? Node(memory) : Node();
  return n;
}

}  // namespace

Node dump_node(const nt::Target& target) {
  return dump_node(target.dump(), target.physical(), target.cpus().size());
}

Node dump_node(const dump::DumpFile& dump) {
  return dump_node(dump, dump.physical.get(), dump.cpus.size());
}

Node target_node(const nt::Target& target) {
  const nt::Clock clock = nt::read_clock(target);
  Node n = Node::map();
  n["build"] = target.build() == 0 ? Node() : Node(target.build());
  n["build_lab"] = target.build_lab().empty() ? Node() : Node(target.build_lab());
  n["machine"] = "x64";
  n["kernel_base"] = target.kernel_base();
  n["dtb"] = target.paging() != nullptr ? Node(VirtAddr(target.place().dtb.value())) : Node();
  Node pdb;
  if (const auto& id = target.nt().pdb()) {
    pdb["name"] = id->name;
    pdb["guid"] = id->guid_text();
    pdb["age"] = id->age;
  } else if (target.layouts().exact() != nullptr) {
    const auto& exact = target.layouts().exact()->pdb();
    pdb["name"] = exact.name;
    pdb["guid"] = exact.guid_text();
    pdb["age"] = exact.age;
  }
  n["pdb"] = std::move(pdb);
  n["layout_source"] = target.layout_source();
  n["layout_confidence"] =
      name(target.layouts().exact() != nullptr ? Confidence::exact : target.layouts().best_confidence());
  Node checks;
  if (target.layouts().exact() == nullptr) {
    checks["passed"] = target.layouts().best_score().passed;
    checks["tested"] = target.layouts().best_score().tested;
  }
  n["layout_checks"] = std::move(checks);
  u64 system_time = clock.system_time;
  if (system_time == 0 && target.dump().header) system_time = target.dump().header->system_time;
  n["system_time"] = time_node(system_time);
  u64 up = 0;
  if (clock.tick_count) up = clock.ms(clock.ticks_since_boot) / 1000;
  if (up == 0 && target.dump().header) up = target.dump().header->system_up_time / 10'000'000;
  n["uptime_s"] = up == 0 ? Node() : Node(up);
  Node known = Node::list();
  for (const nt::Known& k : target.known()) {
    Node item = Node::map();
    item["what"] = k.what;
    item["how"] = k.how;
    known.add(std::move(item));
  }
  n["found_by"] = std::move(known);
  return n;
}

Node modules_node(const nt::Target& target) {
  Node list = Node::list();
  for (const auto& m : target.modules().all()) {
    Node n = Node::map();
    n["name"] = m->name();
    n["base"] = m->base();
    n["size"] = m->size();
    n["file"] = m->file_name();
    n["path"] = m->path().empty() ? Node() : Node(m->path());
    n["symbols"] = m->symbols() != nullptr                                   ? Node(m->symbols_from())
                   : m->image() != nullptr && !m->image()->exports().empty() ? Node("exports")
                                                                             : Node();
    if (const auto& id = m->pdb()) {
      n["pdb"]["name"] = id->name;
      n["pdb"]["guid"] = id->guid_text();
      n["pdb"]["age"] = id->age;
    }
    list.add(std::move(n));
  }
  return list;
}

}  // namespace unhang::app
