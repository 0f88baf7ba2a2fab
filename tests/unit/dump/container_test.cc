// Compressed dumps, pipes, libvirt save files; and what must not happen with them.
#include <bzlib.h>
#include <fcntl.h>
#include <lz4frame.h>
#include <lzma.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/format.h"
#include "capture.h"

namespace unhang::dump {
namespace {

using Bytes = std::vector<u8>;

Bytes gzip(const Bytes& in) {
  z_stream s{};
  deflateInit2(&s, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  Bytes out(deflateBound(&s, in.size()) + 64);
  s.next_in = const_cast<u8*>(in.data());
  s.avail_in = static_cast<unsigned>(in.size());
  s.next_out = out.data();
  s.avail_out = static_cast<unsigned>(out.size());
  EXPECT_EQ(deflate(&s, Z_FINISH), Z_STREAM_END);
  out.resize(s.total_out);
  deflateEnd(&s);
  return out;
}

Bytes xz(const Bytes& in) {
  Bytes out(lzma_stream_buffer_bound(in.size()));
  size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, nullptr, in.data(), in.size(), out.data(), &size,
                                    out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

Bytes zstd(const Bytes& in) {
  Bytes out(ZSTD_compressBound(in.size()));
  out.resize(ZSTD_compress(out.data(), out.size(), in.data(), in.size(), 3));
  return out;
}

Bytes bzip2(const Bytes& in) {
  Bytes out(in.size() + in.size() / 50 + 1024);
  auto size = static_cast<unsigned>(out.size());
  EXPECT_EQ(BZ2_bzBuffToBuffCompress(reinterpret_cast<char*>(out.data()), &size,
                                     reinterpret_cast<char*>(const_cast<u8*>(in.data())),
                                     static_cast<unsigned>(in.size()), 1, 0, 0),
            BZ_OK);
  out.resize(size);
  return out;
}

Bytes lz4(const Bytes& in) {
  Bytes out(LZ4F_compressFrameBound(in.size(), nullptr));
  out.resize(LZ4F_compressFrame(out.data(), out.size(), in.data(), in.size(), nullptr));
  return out;
}

// lzop with stored blocks and with one block of LZO1X that was made by hand: a literal, then copies of it.
Bytes lzop(const Bytes& in) {
  Bytes out{0x89, 'L', 'Z', 'O', 0, '\r', '\n', 0x1a, '\n'};
  const auto be = [&](u64 v, int n) {
    for (int i = n - 1; i >= 0; i--) out.push_back(static_cast<u8>(v >> (8 * i)));
  };
  be(0x1040, 2), be(0x20a0, 2), be(0x0940, 2), be(1, 1), be(5, 1), be(1, 4), be(0644, 4), be(0, 4), be(0, 4);
  be(4, 1), out.insert(out.end(), {'d', 'u', 'm', 'p'}), be(0, 4);
  for (size_t at = 0; at < in.size(); at += 262144) {
    const size_t n = std::min<size_t>(262144, in.size() - at);
    be(n, 4), be(n, 4), be(adler32(adler32(0, nullptr, 0), in.data() + at, static_cast<unsigned>(n)), 4);
    out.insert(out.end(), in.begin() + static_cast<std::ptrdiff_t>(at),
               in.begin() + static_cast<std::ptrdiff_t>(at + n));
  }
  be(0, 4);
  return out;
}

Bytes bytes_of(const File& file) {
  const auto s = file.bytes().span();
  return {s.begin(), s.end()};
}

std::shared_ptr<const File> in_memory(Bytes bytes) {
  return File::from_bytes(std::move(bytes), "made here");
}

struct Packer {
  const char* name;
  Bytes (*pack)(const Bytes&);
  bool skippable = false;  // the format has frames for data of others
};

class Container : public testing::TestWithParam<Packer> {};

constexpr const char* kInside = "virsh-memory-only.kdump-zlib.flat";

TEST_P(Container, GivesTheDumpInside) {
  NEED_CAPTURE(kInside);
  const auto dump = open_dump(in_memory(GetParam().pack(bytes_of(*capture(kInside)))));
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_TRUE(dump->gaps.empty());
  EXPECT_NE(dump->description.find(std::string("unpacked from ") + GetParam().name), std::string::npos);
  expect_registers(*dump, false);
  EXPECT_EQ(expect_same_memory(*dump).missing, 0u);
}

TEST_P(Container, SeveralMembersAndPaddingAreOneDump) {
  NEED_CAPTURE(kInside);
  const Bytes all = bytes_of(*capture(kInside));
  const auto middle = all.begin() + 700001;
  Bytes packed = GetParam().pack(Bytes(all.begin(), middle));
  const Bytes second = GetParam().pack(Bytes(middle, all.end()));
  packed.resize(packed.size() + 8);  // what xz calls stream padding
  if (GetParam().skippable) packed.insert(packed.end(), {0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'});
  packed.insert(packed.end(), second.begin(), second.end());
  packed.resize(packed.size() + 512);  // a block device ends later than the file on it
  const auto dump = open_dump(in_memory(packed));
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_TRUE(dump->gaps.empty());
  EXPECT_EQ(expect_same_memory(*dump).missing, 0u);
}

TEST_P(Container, AFrameOfOthersMayComeFirst) {
  if (!GetParam().skippable) return;
  NEED_CAPTURE(kInside);
  Bytes packed{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
  const Bytes rest = GetParam().pack(bytes_of(*capture(kInside)));
  packed.insert(packed.end(), rest.begin(), rest.end());
  const auto dump = open_dump(in_memory(packed));
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_TRUE(dump->gaps.empty());
}

// One bit: without the block's checksum it would be memory that was never the guest's.
TEST(ContainerFile, LzopChecksumsAreVerified) {
  NEED_CAPTURE(kInside);
  Bytes packed = lzop(bytes_of(*capture(kInside)));
  packed[packed.size() / 2] ^= 4;
  const auto dump = open_dump(in_memory(packed));
  ASSERT_TRUE(dump) << text(dump.error());
  ASSERT_FALSE(dump->gaps.empty());
  EXPECT_NE(dump->gaps[0].why.find("damaged"), std::string::npos) << dump->gaps[0].why;
}

TEST(ContainerFile, AWindowThatIsTooLargeIsSaid) {
  NEED_CAPTURE(kInside);
  const Bytes all = bytes_of(*capture(kInside));
  ZSTD_CCtx* c = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 28);
  Bytes packed(ZSTD_compressBound(all.size()) + 1024);
  // The size is not told, or the window would shrink to it.
  ZSTD_inBuffer in{all.data(), all.size(), 0};
  ZSTD_outBuffer out{packed.data(), packed.size(), 0};
  while (in.pos < in.size) ZSTD_compressStream2(c, &out, &in, ZSTD_e_continue);
  while (ZSTD_compressStream2(c, &out, &in, ZSTD_e_end) != 0) continue;
  ZSTD_freeCCtx(c);
  packed.resize(out.pos);
  const auto dump = open_dump(in_memory(packed));
  ASSERT_FALSE(dump);
  EXPECT_NE(text(dump.error()).find("--long=31"), std::string::npos) << text(dump.error());
}

TEST_P(Container, TruncationLeavesWhatCameBeforeIt) {
  NEED_CAPTURE(kInside);
  const auto packed = in_memory(GetParam().pack(bytes_of(*capture(kInside))));
  int opened = 0;
  for (u64 size = 0; size < 64; size++)
    survives(cut(*packed, size), fmt::format("{} cut at {}", GetParam().name, size));
  for (u64 size = 64; size < packed->size(); size += packed->size() / 23)
    opened += survives(cut(*packed, size), fmt::format("{} cut at {}", GetParam().name, size));
  EXPECT_GE(opened, 10);
  const auto dump = open_dump(cut(*packed, packed->size() - 300));
  ASSERT_TRUE(dump) << text(dump.error());
  ASSERT_FALSE(dump->gaps.empty());
  EXPECT_EQ(dump->gaps[0].what, "compressed file");
  EXPECT_NE(dump->gaps[0].why.find("truncated"), std::string::npos) << dump->gaps[0].why;
}

TEST_P(Container, DamageInTheMiddleIsSurvived) {
  NEED_CAPTURE(kInside);
  const auto packed = in_memory(GetParam().pack(bytes_of(*capture(kInside))));
  for (u64 at = 16; at < packed->size(); at += packed->size() / 29) {
    const u64 junk = 0xa5a5a5a5a5a5a5a5;
    if (at + 8 < packed->size())
      survives(patched(*packed, at, &junk, 8), fmt::format("{} damaged at {}", GetParam().name, at));
  }
}

INSTANTIATE_TEST_SUITE_P(Codecs, Container,
                         testing::Values(Packer{"gzip", gzip}, Packer{"xz", xz}, Packer{"zstd", zstd, true},
                                         Packer{"bzip2", bzip2}, Packer{"lz4", lz4, true},
                                         Packer{"lzop", lzop}),
                         [](const auto& p) { return std::string(p.param.name); });

class LibvirtFile : public testing::TestWithParam<const char*> {};

TEST_P(LibvirtFile, HoldsTheSameMachineAsTheElfCore) {
  NEED_CAPTURE(GetParam());
  const auto dump = open_dump(capture_path(GetParam()));
  ASSERT_TRUE(dump) << text(dump.error());
  EXPECT_TRUE(dump->gaps.empty());
  expect_registers(*dump, true);
  const Compared c = expect_same_memory(*dump);
  EXPECT_EQ(c.missing, 0u);
  EXPECT_EQ(c.same + c.other_boot, 32768u);
  EXPECT_LE(c.other_boot, 13u);
}

TEST_P(LibvirtFile, SurvivesTruncationAnywhere) {
  NEED_CAPTURE(GetParam());
  const auto file = capture(GetParam());
  std::vector<u64> sizes{0, 1, 15, 16, 20, 24, 28, 32, 91, 92, 93, 66721, 66722, 66723, 66814, 66815, 66818};
  for (u64 s = 1000; s < file->size(); s += file->size() / 60) sizes.push_back(s);
  for (const u64 s : sizes) survives(cut(*file, s), fmt::format("{} cut at {}", GetParam(), s));
}

TEST_P(LibvirtFile, LyingHeadersAreRefusedInOneSentence) {
  NEED_CAPTURE(GetParam());
  const auto file = capture(GetParam());
  for (const u64 at : {u64{16}, u64{20}, u64{24}, u64{28}, u64{32}})
    for (const u32 v : {0u, 1u, 4u, 6u, 7u, 0x7fffffffu, 0xffffffffu})
      survives(patched(*file, at, &v, 4), fmt::format("{} at {}", v, at));
}

INSTANTIATE_TEST_SUITE_P(Captures, LibvirtFile,
                         testing::Values("virsh-save.libvirt", "virsh-save-gzip.libvirt",
                                         "virsh-snapshot-memspec.libvirt", "virsh-dump-plain.gzip"));

TEST(LibvirtSave, EveryCompressionThatLibvirtHas) {
  NEED_CAPTURE("virsh-save.libvirt");
  const Bytes all = bytes_of(*capture("virsh-save.libvirt"));
  const u64 start = 92 + ByteView(all.data(), all.size()).at<u32>(20);
  const Bytes stream(all.begin() + static_cast<std::ptrdiff_t>(start), all.end());
  const std::pair<u8, Packer> forms[] = {{u8{1}, {"gzip", gzip}},
                                         {u8{2}, {"bzip2", bzip2}},
                                         {u8{3}, {"xz", xz}},
                                         {u8{4}, {"lzop", lzop}},
                                         {u8{5}, {"zstd", zstd}}};
  for (const auto& [number, packer] : forms) {
    Bytes file(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(start));
    file[28] = number;
    const Bytes packed = packer.pack(stream);
    file.insert(file.end(), packed.begin(), packed.end());
    const auto dump = open_dump(in_memory(file));
    ASSERT_TRUE(dump) << packer.name << ": " << text(dump.error());
    EXPECT_EQ(dump->format, "libvirt-save");
    EXPECT_NE(dump->description.find(packer.name), std::string::npos);
    expect_registers(*dump, true);
  }
}

TEST(LibvirtSave, AnUnfinishedSaveIsAGap) {
  NEED_CAPTURE("virsh-save.libvirt");
  const auto dump = open_dump(patched(*capture("virsh-save.libvirt"), 12, "Part", 4));
  ASSERT_TRUE(dump);
  ASSERT_EQ(dump->gaps.size(), 1u);
  EXPECT_EQ(dump->gaps[0].what, "libvirt save file");
}

TEST(LibvirtSave, DimmsAreWhereItsXmlSays) {
  const std::string xml =
      "<domain><name>tiny</name><devices><memory model='dimm'><address type='dimm' slot='0' "
      "base='0x140000000'/>"
      "</memory></devices></domain>";
  Bytes f;
  f.reserve(1 << 16);
  f.resize(92);
  std::memcpy(f.data(), "LibvirtQemudSave", 16);
  f[16] = 2;
  f[20] = static_cast<u8>(xml.size() + 1);
  f.insert(f.end(), xml.begin(), xml.end());
  f.push_back(0);
  const auto be = [&](u64 v, int n) {
    for (int i = n - 1; i >= 0; i--) f.push_back(static_cast<u8>(v >> (8 * i)));
  };
  const auto name = [&](std::string_view s) { be(s.size(), 1), f.insert(f.end(), s.begin(), s.end()); };
  f.insert(f.end(), {'Q', 'E', 'V', 'M'});
  be(3, 4), be(1, 1), be(2, 4), name("ram"), be(0, 4), be(4, 4), be((2 << 20) | 4, 8);
  name("pc.ram"), be(1 << 20, 8), name("memdimm0"), be(1 << 20, 8), be(0x10, 8), be(3, 1), be(2, 4);
  be(0x3008, 8), name("memdimm0"), f.push_back('d'), f.resize(f.size() + 4095), be(0x10, 8);
  const auto dump = open_dump(in_memory(f));
  ASSERT_TRUE(dump) << text(dump.error());
  const auto page = dump->physical->at(PhysAddr(0x140003000));
  ASSERT_TRUE(page);
  EXPECT_EQ(page->data[0], 'd');
}

TEST(Pipe, ADumpOnAPipeIsSpooled) {
  NEED_CAPTURE(kInside);
  for (const bool packed : {false, true}) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const Bytes bytes = packed ? zstd(bytes_of(*capture(kInside))) : bytes_of(*capture(kInside));
    std::jthread writer([&] {
      for (size_t at = 0; at < bytes.size();) {
        const ssize_t n = write(ends[1], bytes.data() + at, std::min<size_t>(bytes.size() - at, 10007));
        if (n <= 0) break;
        at += static_cast<size_t>(n);
      }
      close(ends[1]);
    });
    const auto dump = open_dump(fmt::format("/dev/fd/{}", ends[0]));
    writer.join();
    close(ends[0]);
    ASSERT_TRUE(dump) << text(dump.error());
    expect_registers(*dump, false);
  }
}

TEST(Spool, ZerosTakeNoSpace) {
  auto spool = Spool::create({});
  ASSERT_TRUE(spool);
  const Bytes zeros(3 << 20), ones(5000, 1);
  for (int i = 0; i < 20; i++) ASSERT_TRUE(spool->write(zeros));
  ASSERT_TRUE(spool->write(ones));
  const auto file = spool->finish("spool");
  ASSERT_TRUE(file) << text(file.error());
  ASSERT_EQ((*file)->size(), (u64{60} << 20) + 5000);
  EXPECT_EQ((*file)->bytes().at<u8>((u64{60} << 20) - 1), 0);
  EXPECT_EQ((*file)->bytes().at<u8>(u64{60} << 20), 1);
  EXPECT_EQ((*file)->bytes().at<u8>((*file)->size() - 1), 1);
  u64 data = 0;
  for (const Extent& e : (*file)->data_extents(0, (*file)->size())) data += e.size;
  EXPECT_LT(data, 1u << 20);
}

TEST(Spool, ABombStopsAtTheReserveOfTheDisk) {
  OpenOptions options;
  options.spool.folder = "/var/tmp";
  Bytes bytes(40 << 20);
  for (size_t i = 0; i < bytes.size(); i += 512) bytes[i] = static_cast<u8>(i >> 9 | 1);
  const auto packed = in_memory(zstd(bytes));
  Result<DumpFile> dump = fail(Why::not_present, nullptr);
  // All but 16 MiB are reserved: 40 MiB that do not compress to holes must not fit. Another test may give the
  // disk some room meanwhile.
  for (int tries = 0; tries < 5; tries++) {
    options.spool.reserve = std::filesystem::space("/var/tmp").available - (16 << 20);
    dump = open_dump(packed, options);
    if (!dump) break;
  }
  ASSERT_FALSE(dump);
  EXPECT_EQ(dump.error().why, Why::io);
  EXPECT_NE(text(dump.error()).find("TMPDIR"), std::string::npos) << text(dump.error());
}

TEST(Spool, ABombOfZerosEndsAtItsLimit) {
  OpenOptions options;
  options.spool.most = 64 << 20;
  const auto dump = open_dump(in_memory(gzip(Bytes(100 << 20))), options);
  ASSERT_FALSE(dump);
  EXPECT_EQ(dump.error().why, Why::limit);
  EXPECT_NE(text(dump.error()).find("unpacks to more"), std::string::npos) << text(dump.error());
}

TEST(ContainerFile, CompressedOverAndOverIsRefused) {
  Bytes bytes(5 << 20);
  for (int i = 0; i < 4; i++) bytes = gzip(bytes);
  const auto dump = open_dump(in_memory(bytes));
  ASSERT_FALSE(dump);
  EXPECT_NE(text(dump.error()).find("three times"), std::string::npos);
}

TEST(ContainerFile, ProgressIsToldAndCanStop) {
  NEED_CAPTURE(kInside);
  const auto packed = in_memory(gzip(bytes_of(*capture("virsh-dump-plain.qevm"))));
  u64 calls = 0, indexed = 0;
  OpenOptions options;
  options.progress = [&](const ProgressStep& s) {
    calls += s.what == "unpacking gzip" ? 1 : 0;
    indexed += s.what == "indexing the migration stream" ? 1 : 0;
    EXPECT_LE(s.done, s.total);
    return true;
  };
  EXPECT_TRUE(open_dump(packed, options));
  EXPECT_GE(calls, 1u);
  EXPECT_GE(indexed, 1u);
  options.progress = [](const ProgressStep&) { return false; };
  const auto stopped = open_dump(packed, options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().why, Why::limit);
}

}  // namespace
}  // namespace unhang::dump
