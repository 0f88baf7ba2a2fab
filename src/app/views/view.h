// Views: what the layers below found, as answer trees. Commands return them, `analyze` is made of them; text
// and JSON are renderings of the same tree, so every field that a shape prints is in the JSON as well.
#pragma once

#include "app/session.h"
#include "base/node.h"
#include "diagnose/diagnose.h"
#include "nt/objects/device.h"
#include "nt/objects/eresource.h"

namespace unhang::app {

Node gap_node(const Gap& gap);
Node gaps_node(const std::vector<Gap>& gaps);

// frames: ip, sp, symbol, trust. With `args`, the thread's address space, the four home words behind each
// return address are read as well.
Node stack_node(const stack::ThreadStack& stack, const Source<VirtAddr>* args = nullptr);

struct ThreadParts {
  bool waits = true;
  bool stack = true;
};
Node thread_node(Session& session, const nt::Thread& thread, ThreadParts parts);
// One line of a thread: for lists.
Node thread_line_node(Session& session, const nt::Thread& thread);

// parts 0: one line and the image; threads: with all threads.
struct ProcessParts {
  bool details = false;
  bool threads = false;
  ThreadParts thread;
};
Node process_node(Session& session, const nt::Process& process, ProcessParts parts);

Node resource_node(Session& session, const nt::Resource& resource);
Node irp_node(Session& session, const nt::Irp& irp);
Node file_node(Session& session, const nt::FileObject& file);
Node device_node(Session& session, const nt::Device& device);
Node driver_node(Session& session, const nt::Driver& driver);

// 2024-01-15T09:30:00Z from 100 ns since 1601; null when 0.
Node time_node(u64 filetime);
// h:mm:ss.mmm, as !thread prints times.
std::string hms(u64 ms);

// The report of DESIGN section 6.
Node analysis_node(Session& session, const diagnose::Diagnosis& diagnosis, const diagnose::Options& options);
// dump, target: what `info` prints and every report begins with.
Node dump_node(const nt::Target& target);
// The same of a file in which no Windows was looked for.
Node dump_node(const dump::DumpFile& dump);
Node target_node(const nt::Target& target);
Node modules_node(const nt::Target& target);

}  // namespace unhang::app
