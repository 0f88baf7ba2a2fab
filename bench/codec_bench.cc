// Packed pages: how many a second come out of a kdump-compressed file, sequentially, at random, by two
// threads; beside libkdumpfile on the same file and beside the bare codec on the same pages.
//
// usage: codec_bench [Google Benchmark's options] FILE.kdump ...
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <libkdumpfile/kdumpfile.h>
#include <snappy.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>

#include "base/format.h"
#include "dump/dump_file.h"

namespace {

using namespace unhang;

struct Subject {
  std::string path, name;
  std::shared_ptr<const File> file;
  std::vector<PhysAddr> sequential, random;  // pages that are packed: not all zeros
};

dump::DumpFile open(const Subject& s) {
  auto d = dump::open_dump(s.file);
  if (!d || !d->physical) std::abort();
  return std::move(*d);
}

void read_all(const dump::PageSource<PhysAddr>& source, std::span<const PhysAddr> pages) {
  for (const PhysAddr pa : pages) {
    const auto slice = source.at(pa);
    benchmark::DoNotOptimize(slice->data[0]);
  }
}

// A fresh dump each time: what is measured is unpacking, not the cache.
void unhang_reads(benchmark::State& state, const Subject* s, bool random, unsigned threads) {
  const auto& pages = random ? s->random : s->sequential;
  for (auto _ : state) {
    state.PauseTiming();
    const dump::DumpFile d = open(*s);
    state.ResumeTiming();
    std::vector<std::jthread> pool;
    const size_t part = pages.size() / threads;
    for (unsigned t = 1; t < threads; t++)
      pool.emplace_back([&, t] { read_all(*d.physical, std::span(pages).subspan(t * part, part)); });
    read_all(*d.physical, std::span(pages).first(part));
  }
  state.SetItemsProcessed(static_cast<i64>(pages.size()) * state.iterations());
}

void libkdumpfile_reads(benchmark::State& state, const Subject* s, bool random) {
  const auto& pages = random ? s->random : s->sequential;
  std::vector<u8> room(kPageSize);
  for (auto _ : state) {
    state.PauseTiming();
    kdump_ctx_t* ctx = kdump_new();
    const int fd = ::open(s->path.c_str(), O_RDONLY);
    if (kdump_open_fd(ctx, fd) != KDUMP_OK) {
      state.SkipWithError(kdump_get_err(ctx));
      kdump_free(ctx);
      ::close(fd);
      return;
    }
    state.ResumeTiming();
    for (const PhysAddr pa : pages) {
      size_t n = kPageSize;
      if (kdump_read(ctx, KDUMP_MACHPHYSADDR, pa.value(), room.data(), &n) != KDUMP_OK) std::abort();
      benchmark::DoNotOptimize(room[0]);
    }
    state.PauseTiming();
    kdump_free(ctx);
    ::close(fd);
    state.ResumeTiming();
  }
  state.SetItemsProcessed(static_cast<i64>(pages.size()) * state.iterations());
}

enum class Codec { deflate, snappy, zstd };

void bare(benchmark::State& state, const Subject* s, Codec codec) {
  const dump::DumpFile d = open(*s);
  std::vector<std::string> packed;
  libdeflate_compressor* c = libdeflate_alloc_compressor(1);
  for (const PhysAddr pa : s->sequential) {
    const auto slice = d.physical->at(pa);
    std::string out(2 * kPageSize, '\0');
    const auto* in = reinterpret_cast<const char*>(slice->data);
    if (codec == Codec::deflate)
      out.resize(libdeflate_zlib_compress(c, in, kPageSize, out.data(), out.size()));
    else if (codec == Codec::snappy)
      snappy::Compress(in, kPageSize, &out);
    else
      out.resize(ZSTD_compress(out.data(), out.size(), in, kPageSize, 1));
    packed.push_back(std::move(out));
  }
  libdeflate_free_compressor(c);
  libdeflate_decompressor* decompressor = libdeflate_alloc_decompressor();
  ZSTD_DCtx* context = ZSTD_createDCtx();
  std::vector<char> room(kPageSize);
  for (auto _ : state)
    for (const std::string& p : packed) {
      if (codec == Codec::deflate)
        libdeflate_zlib_decompress(decompressor, p.data(), p.size(), room.data(), room.size(), nullptr);
      else if (codec == Codec::snappy)
        snappy::RawUncompress(p.data(), p.size(), room.data());
      else
        ZSTD_decompressDCtx(context, room.data(), room.size(), p.data(), p.size());
      benchmark::DoNotOptimize(room[0]);
    }
  libdeflate_free_decompressor(decompressor);
  ZSTD_freeDCtx(context);
  state.SetItemsProcessed(static_cast<i64>(packed.size()) * state.iterations());
}

std::optional<Subject> subject(const char* path) {
  const auto file = File::open(path);
  if (!file) return std::nullopt;
  Subject s{.path = path,
            .name = std::string(path).substr(std::string(path).find_last_of('/') + 1),
            .file = *file,
            .sequential = {},
            .random = {}};
  const dump::DumpFile d = open(s);
  for (const auto& r : d.physical->ranges())
    for (u64 at = 0; at + kPageSize <= r.size; at += kPageSize) {
      const auto slice = d.physical->at(r.start + at);
      if (slice && slice->size == kPageSize &&
          std::any_of(slice->data, slice->data + kPageSize, [](u8 b) { return b != 0; }))
        s.sequential.push_back(r.start + at);
    }
  s.random = s.sequential;
  std::shuffle(s.random.begin(), s.random.end(), std::mt19937(1));
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  static std::vector<Subject> subjects;
  for (int i = 1; i < argc; i++) {
    auto s = subject(argv[i]);
    if (!s) {
      std::fprintf(stderr, "%s: cannot be opened\n", argv[i]);
      return 2;
    }
    subjects.push_back(std::move(*s));
  }
  for (const Subject& s : subjects) {
    auto add = [&](const char* what, auto function) {
      benchmark::RegisterBenchmark((s.name + "/" + what).c_str(), function)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    };
    const Subject* p = &s;
    add("unhang/sequential", [p](benchmark::State& st) { unhang_reads(st, p, false, 1); });
    add("unhang/random", [p](benchmark::State& st) { unhang_reads(st, p, true, 1); });
    add("unhang/random/2 threads", [p](benchmark::State& st) { unhang_reads(st, p, true, 2); });
    add("libkdumpfile/sequential", [p](benchmark::State& st) { libkdumpfile_reads(st, p, false); });
    add("libkdumpfile/random", [p](benchmark::State& st) { libkdumpfile_reads(st, p, true); });
    if (s.name.find("zlib") != s.name.npos)
      add("bare libdeflate", [p](benchmark::State& st) { bare(st, p, Codec::deflate); });
    if (s.name.find("snappy") != s.name.npos)
      add("bare snappy", [p](benchmark::State& st) { bare(st, p, Codec::snappy); });
    if (s.name.find("zstd") != s.name.npos)
      add("bare zstd", [p](benchmark::State& st) { bare(st, p, Codec::zstd); });
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
