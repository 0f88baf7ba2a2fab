// Processes: EPROCESS.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nt/object.h"
#include "nt/walk.h"

namespace unhang::nt {

struct KPROCESS {
  static constexpr TypeName kType{"_KPROCESS"};
  static inline const Member<u64> DirectoryTableBase{kType, kRequired, "DirectoryTableBase"};
  static inline const Member<u64> UserDirectoryTableBase{kType, "UserDirectoryTableBase"};
  static inline const Member<u8> BasePriority{kType, "BasePriority"};
  // Renamed in 10.0.20348.2227, where EPROCESS got the high halves. Ticks: they wrap after 776 days at 64 Hz.
  static inline const Member<u32> KernelTime{kType, "KernelTime", "KernelTimeLow"};
  static inline const Member<u32> UserTime{kType, "UserTime", "UserTimeLow"};
};

struct EPROCESS {
  static constexpr TypeName kType{"_EPROCESS"};
  static inline const Member<AnyInteger> UniqueProcessId{kType, kRequired, "UniqueProcessId"};
  static inline const Member<AnyInteger> InheritedFromUniqueProcessId{kType, "InheritedFromUniqueProcessId"};
  static inline const Member<ListEntry> ActiveProcessLinks{kType, kRequired, "ActiveProcessLinks"};
  static inline const Member<ListEntry> ThreadListHead{kType, kRequired, "ThreadListHead"};
  static inline const Member<u32> ActiveThreads{kType, "ActiveThreads"};
  static inline const Member<Inside> ImageFileName{kType, kRequired, "ImageFileName"};
  static inline const Member<VirtAddr> ImageName{kType, "SeAuditProcessCreationInfo.ImageFileName"};
  static inline const Member<VirtAddr> Peb{kType, kRequired, "Peb"};
  static inline const Member<VirtAddr> Session{kType, "Session"};
  static inline const Member<VirtAddr> ObjectTable{kType, kRequired, "ObjectTable"};
  static inline const Member<VirtAddr> Wow64Process{kType, kRequired, "WoW64Process", "Wow64Process"};
  static inline const Member<u64> CreateTime{kType, "CreateTime"};
  static inline const Member<u64> ExitTime{kType, "ExitTime"};
  static inline const Member<AnyInteger> CommitCharge{kType, "CommitCharge"};
  static inline const Member<AnyInteger> Token{kType, "Token"};
};

struct MM_SESSION_SPACE {
  static constexpr TypeName kType{"_MM_SESSION_SPACE"};
  static inline const Member<u32> SessionId{kType, "SessionId"};
};

inline constexpr u64 kSystemPid = 4;  // on every Windows

struct Process {
  VirtAddr address{};
  u64 pid = 0, parent_pid = 0;
  std::string name;          // the longest form that is known: the path's last part, else the 15 characters
  std::string path;          // \Device\HarddiskVolume2\Windows\System32\smss.exe
  std::string command_line;  // from the PEB; empty when paged out
  std::optional<u32> session;
  PhysAddr dtb{};
  VirtAddr peb{}, object_table{}, wow64{}, token{};
  u64 create_time = 0, exit_time = 0;
  u64 commit_pages = 0;
  u32 kernel_ticks = 0, user_ticks = 0;
  int base_priority = 0;
  std::vector<VirtAddr> threads;
  Walk thread_walk;
  std::vector<Gap> gaps;
  bool exited() const { return exit_time != 0; }
};

bool is_process(const Target& target, VirtAddr va);

// Errors: those of reading its header, implausible (not a process).
Result<Process> read_process(const Target& target, VirtAddr va);

// PsActiveProcessHead, with the idle process in front. When the list is broken, processes are also taken from
// the threads on processors.
struct ProcessList {
  std::vector<VirtAddr> processes;
  Walk walk;
  std::vector<Gap> gaps;
};
ProcessList list_processes(const Target& target);

// The thread whose kernel stack an address lies in: looks at the threads of all listed processes.
std::optional<VirtAddr> find_thread_by_stack(const Target& target, VirtAddr sp,
                                             std::vector<VirtAddr> processes = {});

}  // namespace unhang::nt
