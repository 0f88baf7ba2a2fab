#include "nt/objects/process.h"

#include <array>
#include <unordered_set>

#include "base/format.h"
#include "base/utf.h"
#include "nt/objects/cpu.h"
#include "nt/objects/dispatcher.h"
#include "nt/objects/loader.h"
#include "nt/objects/thread.h"
#include "nt/target.h"

namespace unhang::nt {

namespace {

constexpr size_t kMostProcesses = 1 << 16;
constexpr size_t kMostThreads = 1 << 18;

void read_names(const Target& target, const Object& o, Process& p) {
  if (const auto at = o.address(EPROCESS::ImageFileName)) {
    std::array<u8, 15> raw{};
    if (memory::read_exact(target.kernel(), *at, raw))
      p.name = printable(ByteView(raw.data(), raw.size()).c_string(0));
  }
  // SeAuditProcessCreationInfo.ImageFileName: OBJECT_NAME_INFORMATION, which begins with the UNICODE_STRING.
  if (const auto at = o.maybe(EPROCESS::ImageName); at && is_kernel(*at))
    if (const auto s = memory::read<UnicodeString>(target.kernel(), *at))
      if (const auto path = target.read_string(*s)) p.path = *path;
  // ImageFileName is cut at 14 characters; the path's last part continues it.
  const std::string base = p.path.substr(p.path.find_last_of('\\') + 1);
  if (base.size() > p.name.size() && !p.name.empty() && base.starts_with(p.name)) p.name = base;
  if (p.name.empty()) p.name = base;
  // Two processes have one name on every machine; a triage dump may lack the page with it.
  if (p.name.empty() && p.pid == 0) p.name = "Idle";
  if (p.name.empty() && p.pid == kSystemPid) p.name = "System";
}

void read_command_line(const Target& target, Process& p) {
  if (p.peb.is_null()) return;
  const Source<VirtAddr>& space = target.space(p.dtb);
  const auto parameters = Object(target, p.peb, space)[PEB::ProcessParameters];
  if (!parameters) {
    p.gaps.push_back({"command line", hex(p.peb), text(parameters.error()), true});
    return;
  }
  if (parameters->is_null()) return;
  const auto s = Object(target, *parameters, space)[RTL_USER_PROCESS_PARAMETERS::CommandLine];
  const auto line = s ? target.read_string(*s, space) : Result<std::string>(fail(s.error()));
  if (line)
    p.command_line = *line;
  else
    p.gaps.push_back({"command line", hex(*parameters), text(line.error()), true});
}

void read_threads(const Target& target, const Object& o, Process& p) {
  const auto head = o.address(EPROCESS::ThreadListHead);
  const auto link = target.bind(ETHREAD::ThreadListEntry);
  if (!head || !link) {
    p.gaps.push_back({"threads", hex(p.address), text(head ? link.error() : head.error())});
    return;
  }
  p.thread_walk = walk_list(target.kernel(), *head, kMostThreads);
  for (const VirtAddr l : p.thread_walk.links) p.threads.push_back(l - link->offset);
  if (!p.thread_walk.complete()) p.gaps.push_back({"threads", hex(p.address), p.thread_walk.how()});
}

// MM_SESSION_SPACE is mapped per session: through the process's own tables. Its type is in no public table of
// 22H2 and later, and what EPROCESS.Session leads to there is not known: the process's own copy in its PEB
// says it, unless that is paged out.
void read_session(const Target& target, const Object& o, Process& p) {
  constexpr u32 kMost = 0x10000, kBuild22H2 = 22621;
  const Source<VirtAddr>& space = target.space(p.dtb);
  const auto session = o.maybe(EPROCESS::Session);
  if (session && is_kernel(*session) && target.build() < kBuild22H2)
    p.session = Object(target, *session, space).maybe(MM_SESSION_SPACE::SessionId);
  if (!p.session && !p.peb.is_null()) p.session = Object(target, p.peb, space).maybe(PEB::SessionId);
  if (p.session && *p.session >= kMost) p.session.reset();
}

}  // namespace

bool is_process(const Target& target, VirtAddr va) {
  if (!is_kernel(va) || va.value() % 8 != 0) return false;
  const Object o(target, va);
  const auto type = o[DISPATCHER_HEADER::Type];
  if (!type || (*type & 0x7f) != static_cast<u8>(DispatcherType::process)) return false;
  const auto dtb = o[KPROCESS::DirectoryTableBase];
  const auto threads = o[EPROCESS::ThreadListHead];
  return dtb && *dtb != 0 && *dtb >> 52 == 0 && threads && is_kernel(threads->flink) &&
         is_kernel(threads->blink);
}

Result<Process> read_process(const Target& target, VirtAddr va) {
  const Object o(target, va);
  const u8 type = TRY(o[DISPATCHER_HEADER::Type]);
  if ((type & 0x7f) != static_cast<u8>(DispatcherType::process))
    return fail(Error{.why = Why::implausible,
                      .va = va,
                      .type = "_EPROCESS",
                      .member = "Pcb.Header.Type",
                      .detail = "not a process"});
  Process p{.address = va};
  auto need = [&](auto result, auto& out, const char* what) {
    if (result)
      out = *result;
    else
      p.gaps.push_back({what, hex(va), text(result.error())});
  };
  u64 dtb = 0;
  need(o[KPROCESS::DirectoryTableBase], dtb, "page tables");
  p.dtb = PhysAddr(dtb).page();
  need(o[EPROCESS::UniqueProcessId], p.pid, "process id");
  p.parent_pid = o.value_or(EPROCESS::InheritedFromUniqueProcessId, 0);
  p.peb = o.value_or(EPROCESS::Peb, {});
  p.object_table = o.value_or(EPROCESS::ObjectTable, {});
  p.wow64 = o.value_or(EPROCESS::Wow64Process, {});
  p.create_time = o.value_or(EPROCESS::CreateTime, 0);
  p.exit_time = o.value_or(EPROCESS::ExitTime, 0);
  p.commit_pages = o.value_or(EPROCESS::CommitCharge, 0);
  p.kernel_ticks = o.value_or(KPROCESS::KernelTime, 0);
  p.user_ticks = o.value_or(KPROCESS::UserTime, 0);
  p.base_priority = static_cast<i8>(o.value_or(KPROCESS::BasePriority, 0));
  p.token = VirtAddr(o.value_or(EPROCESS::Token, 0) & ~u64{15});  // EX_FAST_REF: 4 bits of reference count
  read_session(target, o, p);
  read_names(target, o, p);
  read_command_line(target, p);
  read_threads(target, o, p);
  return p;
}

ProcessList list_processes(const Target& target) {
  ProcessList list;
  std::unordered_set<VirtAddr> seen;
  auto add = [&](VirtAddr va) {
    if (seen.insert(va).second) list.processes.push_back(va);
  };
  if (const auto idle = target.pointer_at("PsIdleProcess"); idle && is_process(target, *idle)) add(*idle);
  // PsIdleProcess is not exported; each processor's idle thread belongs to it.
  for (const Cpu& cpu : target.cpus())
    if (const auto p = Object(target, cpu.idle_thread)[KTHREAD::Process]; p && is_process(target, *p))
      add(*p);
  const auto head = target.symbol("PsActiveProcessHead");
  const auto link = target.bind(EPROCESS::ActiveProcessLinks);
  const auto system = target.pointer_at("PsInitialSystemProcess");
  if (link && head) {
    list.walk = walk_list(target.kernel(), *head, kMostProcesses);
  } else if (link && system && is_process(target, *system)) {
    // Without the head, the ring from the System process; the head itself, inside nt, is no process.
    list.walk = walk_ring(target.kernel(), *system + link->offset, kMostProcesses);
  } else {
    list.gaps.push_back({"process list", "", text(link ? head.error() : link.error())});
  }
  if (!list.walk.complete()) list.gaps.push_back({"process list", "", list.walk.how()});
  for (const VirtAddr l : list.walk.links)
    if (!target.nt().contains(l)) add(l - link->offset);
  const size_t listed = list.processes.size();
  if (system && is_process(target, *system)) add(*system);
  for (const Cpu& cpu : target.cpus())
    if (const auto p = Object(target, cpu.current_thread)[KTHREAD::Process]; p && is_process(target, *p))
      add(*p);
  if (list.processes.size() > listed)
    list.gaps.push_back(
        {"process list", "",
         fmt::format("{} processes were found outside of it", list.processes.size() - listed)});
  return list;
}

std::optional<VirtAddr> find_thread_by_stack(const Target& target, VirtAddr sp,
                                             std::vector<VirtAddr> processes) {
  const auto link = target.bind(ETHREAD::ThreadListEntry);
  if (!link) return std::nullopt;
  const ProcessList list = list_processes(target);
  processes.insert(processes.end(), list.processes.begin(), list.processes.end());
  for (const VirtAddr process : processes) {
    const auto head = Object(target, process).address(EPROCESS::ThreadListHead);
    if (!head) continue;
    for (const VirtAddr l : walk_list(target.kernel(), *head, kMostThreads).links) {
      const Object t(target, l - link->offset);
      const auto base = t[KTHREAD::StackBase], limit = t[KTHREAD::StackLimit];
      if (base && limit && sp >= *limit && sp < *base) return t.va();
    }
  }
  return std::nullopt;
}

}  // namespace unhang::nt
