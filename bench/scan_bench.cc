// The whole-memory stages beside their physical limit: NTFS records and I/O requests in a dump, and memchr
// over the same mapping.
//
// usage: scan_bench DUMP WINDOWS [Google Benchmark's options]; WINDOWS: a dump with a Windows, for its layout
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <thread>

#include "dump/dump_file.h"
#include "nt/irp_scan.h"
#include "nt/ntfs/scan.h"

namespace {

using namespace unhang;

const dump::DumpFile* opened = nullptr;
const nt::Target* windows = nullptr;

u64 populated_bytes() {
  u64 bytes = 0;
  for (const auto& r : opened->physical->populated()) bytes += r.size;
  return bytes;
}

void ntfs_scan(benchmark::State& state) {
  for (auto _ : state) {
    const auto found = nt::ntfs::scan_directory(
        *opened->physical, "\\Windows\\Temp", {},
        {.threads = static_cast<unsigned>(state.range(0)), .budget = std::chrono::hours(1)});
    benchmark::DoNotOptimize(found.index_buffers);
  }
  state.SetBytesProcessed(static_cast<i64>(populated_bytes()) * state.iterations());
}

void irp_scan(benchmark::State& state) {
  const auto test = nt::irp_page_test(*windows);
  for (auto _ : state) {
    const auto found = dump::scan_pages(
        *opened->physical,
        {.threads = static_cast<unsigned>(state.range(0)), .budget = std::chrono::hours(1)}, test.value());
    benchmark::DoNotOptimize(found.pages.size());
  }
  state.SetBytesProcessed(static_cast<i64>(populated_bytes()) * state.iterations());
}

// What any scan of the bytes costs at least.
void plain_memchr(benchmark::State& state) {
  const ByteView file = opened->file->bytes();
  const auto threads = static_cast<u64>(state.range(0));
  for (auto _ : state) {
    std::vector<std::jthread> pool;
    for (u64 t = 0; t < threads; t++)
      pool.emplace_back([&, t] {
        for (const auto& range : opened->physical->populated()) {
          const auto offset = opened->physical->file_offset(range.start);
          if (!offset) continue;
          const u64 part = range.size / threads;
          const auto span = file.sub(*offset + t * part, part)->span();
          // bench/run makes memory without this byte, so that all of it is read.
          benchmark::DoNotOptimize(std::memchr(span.data(), 0xfe, span.size()));
        }
      });
  }
  state.SetBytesProcessed(static_cast<i64>(populated_bytes()) * state.iterations());
}

BENCHMARK(ntfs_scan)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(irp_scan)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(plain_memchr)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 3) {
    std::fprintf(stderr, "usage: scan_bench DUMP WINDOWS\n");
    return 2;
  }
  const auto dump = unhang::dump::open_dump(argv[1]);
  if (!dump || !dump->physical) {
    std::fprintf(stderr, "%s: %s\n", argv[1], dump ? "no physical memory" : text(dump.error()).c_str());
    return 2;
  }
  const auto target = unhang::nt::Target::open(argv[2], {});
  if (!target) {
    std::fprintf(stderr, "%s: %s\n", argv[2], text(target.error()).c_str());
    return 2;
  }
  opened = &*dump;
  windows = target->get();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
