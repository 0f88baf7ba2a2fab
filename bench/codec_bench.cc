// Packed pages: how many a second come out of a kdump-compressed file, sequentially, at random, by two
// threads; beside libkdumpfile on the same file and beside the bare codec on the same pages.
//
// The captures are small, so their packed pages are written again and again into a kdump of thousands of
// pages: opening it and starting threads must not be what is measured. A second file is what QEMU writes,
// flattened, of a guest of 64 GiB: opening it reads the headers of its segments.
//
// usage: codec_bench [Google Benchmark's options] FILE.kdump ...      (assembled, not flattened)
//        codec_bench [Google Benchmark's options]                     (only the second one)
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <libkdumpfile/kdumpfile.h>
#include <snappy.h>
#include <sys/resource.h>
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

// A file without a name that the process's descriptor leads to.
class Scratch {
 public:
  Scratch() : fd_(::open("/var/tmp", O_TMPFILE | O_RDWR, 0600)) {}
  void put(u64 at, ByteView bytes) const {
    if (pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(bytes.size()))
      std::abort();
  }
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }

 private:
  int fd_;
};

struct PackedPage {
  ByteView bytes;
  u32 codec = 0;
};

constexpr u64 kPages = 16384;

// The packed pages of an assembled kdump, each data once: header fields as FORMATS 1.3 has them.
std::vector<PackedPage> packed_pages(ByteView b) {
  const u64 descriptors = (1 + b.at<u32>(432) + b.at<u32>(436)) * kPageSize;
  std::vector<PackedPage> out;
  for (u64 at = descriptors; b.covers(at, 24); at += 24) {
    const u64 offset = b.at<u64>(at);
    const u32 size = b.at<u32>(at + 8), codec = b.at<u32>(at + 12);
    if (offset <= at || !b.covers(offset, size)) break;
    if (codec != 0) out.push_back({*b.sub(offset, size), codec});
  }
  return out;
}

// The capture's header before kPages pages, which are the capture's packed ones in turn.
void enlarge(ByteView capture, const Scratch& out) {
  const auto pages = packed_pages(capture);
  if (pages.empty()) std::abort();
  const u64 map = kPages / 8;  // a block and no more
  static_assert(kPages / 8 <= kPageSize);
  std::vector<u8> head(4 * kPageSize + kPages * 24);
  std::memcpy(head.data(), capture.data(), kPageSize + 104);
  auto put = [&](u64 at, auto value) { std::memcpy(head.data() + at, &value, sizeof value); };
  put(432, u32{1});
  put(436, u32{2});
  put(440, static_cast<u32>(kPages));
  for (const u64 at : {32, 40, 48, 56, 64, 72}) put(kPageSize + at, u64{0});  // no notes
  put(kPageSize + 96, kPages);
  std::memset(head.data() + 2 * kPageSize, 0xFF, map);
  std::memset(head.data() + 3 * kPageSize, 0xFF, map);
  u64 offset = head.size();
  for (u64 i = 0; i < kPages; i++) {
    const PackedPage& page = pages[i % pages.size()];
    const u64 at = 4 * kPageSize + i * 24;
    put(at, offset);
    put(at + 8, static_cast<u32>(page.bytes.size()));
    put(at + 12, page.codec);
    out.put(offset, page.bytes);
    offset += page.bytes.size();
  }
  out.put(0, ByteView(head.data(), head.size()));
}

// A flattened kdump of 64 GiB as QEMU writes it, of which 4 GiB are in use and half as large when packed:
// data in segments of 16 KiB, and between them descriptors in segments of 16 KiB. Only the headers are
// written.
u64 write_flattened(const Scratch& out) {
  constexpr u64 kAll = u64{64} << 18, kUsed = u64{4} << 18, kSegment = 16384;
  constexpr u64 kMap = kAll / 8, kDescriptors = 2 * kPageSize + 2 * kMap, kData = kDescriptors + kAll * 24;
  u64 at = 0, segments = 0;
  const auto segment = [&](u64 start, u64 size, ByteView begin) {
    const u64 header[] = {__builtin_bswap64(start), __builtin_bswap64(size)};
    out.put(at, ByteView(header, sizeof header));
    if (!begin.empty()) out.put(at + 16, begin);
    at += 16 + size;
    segments++;
  };
  std::vector<u8> head(kPageSize);
  std::memcpy(head.data(), "makedumpfile", 12);
  head[23] = head[31] = 1;
  out.put(0, ByteView(head.data(), head.size()));
  at = kPageSize;
  std::fill(head.begin(), head.end(), u8{0});
  auto put = [&](u64 to, auto value) { std::memcpy(head.data() + to, &value, sizeof value); };
  std::memcpy(head.data(), "KDUMP   ", 8);
  std::memcpy(head.data() + 272, "x86_64", 6);
  put(8, u32{6});
  put(424, u32{1});
  put(428, static_cast<u32>(kPageSize));
  put(432, u32{1});
  put(436, static_cast<u32>(2 * kMap / kPageSize));
  segment(0, 464, ByteView(head.data(), 464));
  std::fill(head.begin(), head.end(), u8{0});
  put(96, kAll);
  segment(kPageSize, 104, ByteView(head.data(), 104));
  const std::vector<u8> ones(kPageSize, 0xFF);
  for (u64 i = 0; i < 2 * kMap; i += kPageSize)
    segment(2 * kPageSize + i, kPageSize, ByteView(ones.data(), ones.size()));
  u64 described = 0, stored = 0;
  for (; described < kAll * 24; described += kSegment) {
    segment(kDescriptors + described, kSegment, {});
    // As many pages as are used, evenly; two kilobytes each.
    for (; stored < (described + kSegment) / 24 * 2048 / (kAll / kUsed); stored += kSegment)
      segment(kData + stored, kSegment, {});
  }
  const u64 end[] = {~u64{0}, ~u64{0}};
  out.put(at, ByteView(end, sizeof end));
  return segments;
}

void opens(benchmark::State& state, const std::string* path) {
  for (auto _ : state) {
    const auto file = File::open(*path);
    const auto d = dump::open_dump(*file);
    if (!d) state.SkipWithError(text(d.error()).c_str());
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  state.counters["peak MiB"] = static_cast<double>(usage.ru_maxrss) / 1024;
}

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
    std::optional d = open(*s);
    state.ResumeTiming();
    {
      std::vector<std::jthread> pool;
      const size_t part = pages.size() / threads;
      for (unsigned t = 1; t < threads; t++)
        pool.emplace_back([&, t] { read_all(*d->physical, std::span(pages).subspan(t * part, part)); });
      read_all(*d->physical, std::span(pages).first(part));
    }
    state.PauseTiming();
    d.reset();
    state.ResumeTiming();
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

std::optional<Subject> subject(const char* path, const Scratch& large) {
  const auto capture = File::open(path);
  if (!capture) return std::nullopt;
  enlarge((*capture)->bytes(), large);
  const auto file = File::open(large.path());
  if (!file) return std::nullopt;
  Subject s{.path = large.path(),
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
  static std::vector<Scratch> files(static_cast<size_t>(argc));
  static const std::string flattened = files[0].path();
  if (argc == 1) {
    const std::string title = fmt::format("flattened, 64 GiB, {} segments/open", write_flattened(files[0]));
    benchmark::RegisterBenchmark(title.c_str(), [](benchmark::State& st) { opens(st, &flattened); })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  for (int i = 1; i < argc; i++) {
    auto s = subject(argv[i], files[static_cast<size_t>(i)]);
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
          ->MeasureProcessCPUTime()
          ->Unit(benchmark::kMillisecond);
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
