// From an opened dump to the verdict, for machines of ever more threads and resources, made in memory: one
// queue of a hundred threads at a lock, chains of locks, the rest idle, as servers are.
//
// usage: world_bench [THREADS RESOURCES]...
#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>

#include "diagnose/diagnose.h"
#include "synth/machine.h"

namespace {

using unhang::u32;
using unhang::u64;
using unhang::VirtAddr;
using unhang::synth::Machine;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

u64 resident_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<u64>(usage.ru_maxrss) / 1024;
}

void measure(u32 threads, u32 resources) {
  Machine m({.build = "10.0.19041.804"});
  const unhang::synth::Labels work{
      "Ntfs!NtfsCommonCreate", "Ntfs!NtfsFsdCreate", "nt!IofCallDriver",
      "fltmgr!FltpCreate",     "nt!IofCallDriver",   "nt!IopParseDevice",
      "nt!ObOpenObjectByName", "nt!NtCreateFile",    "nt!KiSystemServiceCopyEnd"};
  const unhang::synth::Labels idle{"nt!KeRemoveQueueEx", "nt!IoRemoveIoCompletion",
                                   "nt!NtWaitForWorkViaWorkerFactory", "nt!KiSystemServiceCopyEnd"};
  const unhang::synth::Labels event{"nt!KeWaitForSingleObject", "nt!ObWaitForSingleObject",
                                    "nt!NtWaitForSingleObject", "nt!KiSystemServiceCopyEnd"};
  constexpr u32 kPerProcess = 50, kQueue = 100, kChain = 10;
  std::vector<VirtAddr> all;
  VirtAddr process, queue;
  for (u32 i = 0; i < threads; i++) {
    if (i % kPerProcess == 0) {
      process = m.add_process(fmt::format("svc{}.exe", i / kPerProcess), 1000 + i * 4);
      queue = m.add_queue();
    }
    const VirtAddr t = m.add_thread(process, 1004 + i * 4);
    all.push_back(t);
    if (i % 3 == 0)
      m.block(t, 15, {queue}, 1000 + i % 500, idle);
    else if (i % 3 == 1)
      m.block(t, 6, {m.add_event(false)}, 5000 + i % 500, event);
  }
  std::vector<VirtAddr> locks;
  for (u32 i = 0; i < resources; i++) locks.push_back(m.add_resource());
  // Every third thread is left: they queue, hold and run.
  std::vector<VirtAddr> busy;
  for (u32 i = 2; i < threads; i += 3) busy.push_back(all[i]);
  size_t next = 0, lock = 0;
  if (busy.size() > 2) {
    m.own_exclusive(locks[lock], busy[0]);
    m.run(busy[0], 1, work, 5);
    for (next = 1; next < busy.size() && next <= kQueue; next++)
      m.wait_for_resource(busy[next], locks[lock], next % 2 == 0, static_cast<u32>(100 + next), work);
    lock++;
    // Chains of ten: each holds a lock and waits for the one before.
    while (next + kChain < busy.size() && lock + kChain < locks.size())
      for (u32 k = 0; k < kChain; k++, next++, lock++) {
        m.own_exclusive(locks[lock], busy[next]);
        m.wait_for_resource(busy[next], k == 0 ? locks[0] : locks[lock - 1], true, 50 + k, work);
      }
  }
  for (; next < busy.size(); next++) m.block(busy[next], 6, {m.add_event(false)}, 7000, event);
  unhang::dump::DumpFile dump = m.dump();
  const u64 before = resident_mib();
  const auto start = std::chrono::steady_clock::now();
  auto target = unhang::nt::Target::open(std::move(dump), {});
  if (!target) std::abort();
  const double opened = seconds_since(start);
  unhang::waits::World world(**target);
  const double read = seconds_since(start);
  const auto diagnosis = unhang::diagnose::diagnose(world, {});
  const double all_done = seconds_since(start);
  fmt::print(
      "{:>8} threads {:>8} resources: open {:>6.0f} ms, read {:>6.0f} ms, diagnose {:>6.0f} ms, in all "
      "{:>6.0f} ms, {} MiB beside the machine's {}; {}\n",
      threads, resources, opened * 1000, (read - opened) * 1000, (all_done - read) * 1000, all_done * 1000,
      resident_mib() - before, before, diagnosis.verdict.cls);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2)
    measure(static_cast<u32>(std::atoi(argv[i])), static_cast<u32>(std::atoi(argv[i + 1])));
}
