#include "symbols/archive.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/format.h"

namespace unhang::symbols {

namespace fs = std::filesystem;

namespace {

constexpr u64 kBlock = 512;
constexpr u64 kMostMember = u64{256} << 20;  // what an import may make
constexpr size_t kMostMembers = 1 << 16;
constexpr std::string_view kEnding = ".layout";

// A header of POSIX.1-1988 ustar. Numbers are octal text.
struct Header {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8];
  char type;
  char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], unused[12];
};
static_assert(sizeof(Header) == kBlock);

u32 checksum(Header h) {
  std::memset(h.checksum, ' ', sizeof h.checksum);
  std::array<u8, kBlock> bytes{};
  std::memcpy(bytes.data(), &h, kBlock);
  u32 sum = 0;
  for (const u8 b : bytes) sum += b;
  return sum;
}

template <size_t N>
void put_octal(char (&field)[N], u64 value) {
  const std::string s = fmt::format("{:0{}o}", value, N - 1);
  std::memcpy(field, s.data(), N - 1);
}

template <size_t N>
std::optional<u64> octal(const char (&field)[N]) {
  u64 value = 0;
  size_t i = 0;
  while (i < N && field[i] == ' ') i++;
  if (i == N) return std::nullopt;
  for (; i < N && field[i] != 0 && field[i] != ' '; i++) {
    if (field[i] < '0' || field[i] > '7' || value >> 60 != 0) return std::nullopt;
    value = value * 8 + static_cast<u64>(field[i] - '0');
  }
  return value;
}

std::string member_name(const Header& h) {
  const std::string name(h.name, strnlen(h.name, sizeof h.name));
  const std::string prefix(h.prefix, strnlen(h.prefix, sizeof h.prefix));
  return prefix.empty() ? name : prefix + "/" + name;
}

std::vector<u8> header(const std::string& name, u64 size) {
  Header h{};
  std::memcpy(h.name, name.data(), std::min(name.size(), sizeof h.name - 1));
  put_octal(h.mode, 0644);
  put_octal(h.uid, 0);
  put_octal(h.gid, 0);
  put_octal(h.size, size);
  put_octal(h.mtime, 0);
  h.type = '0';
  std::memcpy(h.magic, "ustar", 6);
  std::memcpy(h.version, "00", 2);
  put_octal(h.checksum, checksum(h));
  std::vector<u8> bytes(kBlock);
  std::memcpy(bytes.data(), &h, kBlock);
  return bytes;
}

std::unexpected<Error> bad(const char* detail) {
  return fail(Error{.why = Why::bad_file, .type = "tar file", .detail = detail});
}

}  // namespace

bool is_archive(ByteView bytes) {
  return bytes.covers(0, kBlock) && bytes.from(offsetof(Header, magic)).starts_with("ustar");
}

Result<u64> pack_layouts(const std::vector<std::string>& files, const std::string& out,
                         std::vector<Gap>& left_out) {
  const std::string beside = fmt::format("{}.{}", out, getpid());
  std::ofstream tar(beside, std::ios::binary);
  auto write = [&](const void* data, u64 size) {
    tar.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  };
  const std::vector<u8> zeros(2 * kBlock);
  std::set<std::string> names;
  u64 packed = 0;
  for (const std::string& path : files) {
    const auto file = File::open(path);
    const auto layout = file ? Layout::open(*file) : std::unexpected(file.error());
    if (!layout) {
      left_out.push_back({"layout", path, text(layout.error())});
      continue;
    }
    const std::string name = (*layout)->pdb().key() + std::string(kEnding);
    if (!names.insert(name).second) continue;
    const std::vector<u8> h = header(name, (*file)->size());
    write(h.data(), h.size());
    write((*file)->bytes().data(), (*file)->size());
    write(zeros.data(), (kBlock - (*file)->size() % kBlock) % kBlock);
    packed++;
  }
  write(zeros.data(), zeros.size());
  std::error_code e;
  if (!tar.flush()) {
    fs::remove(beside, e);
    return fail(Error{.why = Why::io, .detail = "cannot write the tar file"});
  }
  tar.close();
  fs::rename(beside, out, e);
  if (e) return fail(Error{.why = Why::io, .detail = "cannot give the tar file its name"});
  return packed;
}

Result<Unpacked> unpack_layouts(ByteView archive, Store& store) {
  if (!is_archive(archive)) return bad("it does not begin with a ustar header");
  Unpacked out;
  u64 at = 0;
  for (size_t n = 0; n < kMostMembers; n++) {
    const auto h = archive.le<Header>(at);
    if (!h) return bad("truncated");
    const auto block = archive.sub(at, kBlock)->span();
    if (std::all_of(block.begin(), block.end(), [](u8 b) { return b == 0; })) return out;
    const auto sum = octal(h->checksum), size = octal(h->size);
    if (!sum || *sum != checksum(*h)) return bad("a header's checksum is wrong");
    if (!size || !archive.covers(at + kBlock, *size)) return bad("truncated");
    const ByteView body = *archive.sub(at + kBlock, *size);
    at += kBlock + (*size + kBlock - 1) / kBlock * kBlock;
    const std::string name = member_name(*h);
    auto leave = [&](std::string why) { out.left_out.push_back({"layout", name, std::move(why)}); };
    // A tar made by hand has "./" before names and members for folders and attributes.
    const std::string plain = name.starts_with("./") ? name.substr(2) : name;
    if (h->type != '0' && h->type != 0) {
      if (h->type != '5' && h->type != 'x' && h->type != 'g') leave("not a plain file");
      continue;
    }
    if (plain.find('/') != std::string::npos || !plain.ends_with(kEnding)) {
      leave("not called GUIDAGE.layout");
      continue;
    }
    if (*size > kMostMember) {
      leave("too large for a layout");
      continue;
    }
    const std::vector<u8> bytes(body.span().begin(), body.span().end());
    const auto layout = Layout::from_bytes(bytes, plain);
    if (!layout) {
      leave(text(layout.error()));
      continue;
    }
    if ((*layout)->pdb().key() + std::string(kEnding) != plain) {
      leave(fmt::format("it is the layout of {}", (*layout)->pdb().key()));
      continue;
    }
    TRY_VOID(store.keep(**layout, bytes));
    out.layouts.push_back((*layout)->pdb());
  }
  return fail(Error{.why = Why::limit, .type = "tar file", .detail = "too many members"});
}

}  // namespace unhang::symbols
