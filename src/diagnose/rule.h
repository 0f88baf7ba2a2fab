// Rules: each looks at the world and its wait graph and returns findings. One file each under rules/.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nt/ntfs/scan.h"
#include "waits/graph.h"
#include "waits/world.h"

namespace unhang::diagnose {

using waits::Graph;
using waits::IrpNode;
using waits::Lock;
using waits::ProcessNode;
using waits::ThreadNode;
using waits::World;

// One line of proof, with what it was read from: printed in full by --why.
struct Evidence {
  std::string text;
  Confidence confidence = Confidence::exact;
  std::vector<nt::ReadRecord> reads;
  std::string check;  // the WinDbg command that shows the same: "!locks fffffa80`03049010"
};

// One link of a chain, from those who suffer to the one who causes it.
struct ChainLink {
  std::vector<VirtAddr> waiters;  // threads, the longest-waiting first
  VirtAddr object{};              // what they wait for
  std::string kind;
  std::string name;  // file, directory or symbol of the lock
  std::string mode;  // how the owner holds it
  VirtAddr owner{};  // null: nobody can be named
  u64 longest_ms = 0;
  Confidence confidence = Confidence::exact;
};

struct Culprit {
  VirtAddr thread{};
  std::string process;
  std::optional<u64> pid, tid;
  std::string driver;
  std::string file;
  std::string directory;
  std::optional<u32> cpu;
};

// Who has files of the busy directory open.
struct Holder {
  std::string process;  // name
  u32 processes = 0;    // processes of that name
  u32 handles = 0;
  u32 requests = 0;  // IRPs under way for files in the directory
};

struct Directory {
  std::string path;
  nt::ntfs::DirectoryContents contents;
  std::vector<Holder> holders;
};

struct Finding {
  const char* rule = "";
  const char* verdict = "";  // verdict.class
  std::string title;
  Confidence confidence = Confidence::exact;
  Culprit culprit;
  std::vector<ChainLink> chain;
  std::vector<std::vector<VirtAddr>> cycles;
  std::vector<Evidence> evidence;
  std::vector<std::string> advice;
  std::optional<Directory> directory;
  std::vector<VirtAddr> waiting;  // threads that suffer
  u64 longest_ms = 0;
  double score = 0;
  bool on_symptom = false;  // reached from the thread or process that the user named
};

struct Options {
  std::string symptom;                  // "rdp-logon"
  std::vector<VirtAddr> entry_threads;  // chosen by --thread, --process or the symptom
  bool why = false;                     // record the reads behind each piece of evidence
  dump::ScanOptions scan;
};

class Context {
 public:
  Context(World& w, const Graph& g, const Options& o) : world(w), graph(g), options(o) {}

  World& world;
  const Graph& graph;
  const Options& options;

  // How much it matters that these threads wait: number, time, and whether logon and the desktop are among
  // them.
  double weight(const std::vector<VirtAddr>& threads) const;
  // From the farthest waiters to `head`, along the way where most threads wait.
  std::vector<ChainLink> chain_to(VirtAddr head) const;
  // "php-cgi.exe 3536.3428".
  std::string who(VirtAddr thread) const { return world.who(thread); }
  Culprit culprit(VirtAddr thread) const;
  // The member reads behind a statement, for --why: does the reading once more and records it. Empty unless
  // the user asked.
  std::vector<nt::ReadRecord> reads(const std::function<void()>& reading) const;
  // Evidence about a thread, a lock, an IRP, with the reads and the WinDbg command that belong to it.
  Evidence about_thread(VirtAddr thread, std::string text, Confidence confidence) const;
  Evidence about_lock(const Lock& lock, std::string text, Confidence confidence) const;
  Evidence about_irp(VirtAddr irp, std::string text, Confidence confidence) const;
  // Whether this Windows writes live kernel reports: 10 and later do (bug check code reference, 0x1CC,
  // 0x1C5).
  bool writes_live_reports() const;
  // Why a thread is taken for the holder of what a chain ends in, where no record says so. Nothing where one
  // does.
  std::optional<Evidence> why_holder(const std::vector<ChainLink>& chain, VirtAddr head) const;
  // Whether the threads include one that the user named.
  bool touches_entry(VirtAddr head, const std::vector<VirtAddr>& behind) const;
};

struct Rule {
  const char* name;
  void (*find)(Context& context, std::vector<Finding>& findings);
};

// "holds", or "seems to hold" where no record says so and stacks tell it.
std::string_view holds(const ChainLink& link);

// What a link's owner holds, for a sentence: its file or symbol; kind and address where the name alone says
// nothing.
std::string held_thing(const ChainLink& link);

// What the thread at the end of a chain has to do with its last link: "holds C:\Windows\Temp".
std::string role_of(const ChainLink& link);

// What the thread at the end of an edge owes: "which php-cgi.exe 3536.3428 holds", "to which ... must reply".
std::string owes(std::string_view kind, const std::string& who);

// "1.4 s", "5 min 12 s", "38 ms".
std::string duration(u64 ms);
// "winlogon.exe, explorer.exe (2), lsass.exe": processes of threads with counts.
std::string processes_of(const World& world, const std::vector<VirtAddr>& threads, size_t most = 8);

}  // namespace unhang::diagnose
