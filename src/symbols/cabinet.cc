#include "symbols/cabinet.h"

#include <mspack.h>

#include <algorithm>
#include <cstdlib>

namespace unhang::symbols {

namespace {

using Sink = std::function<bool(std::span<const u8>)>;

std::unexpected<Error> bad(const char* detail) {
  return fail(Error{.why = Why::bad_file, .type = "cabinet", .detail = detail});
}

// libmspack's view of the world: one file that is in memory, one that goes to the sink.
struct System {
  mspack_system base{};  // first: libmspack gives it back as `self`
  ByteView in;
  const Sink* sink = nullptr;
  u64 most = 0, written = 0;
  bool too_much = false, refused = false;
};

struct Handle {
  mspack_file base{};  // first: libmspack gives it back as the file
  System* system = nullptr;
  u64 at = 0;
};

Handle& handle(mspack_file* f) {
  return *reinterpret_cast<Handle*>(f);
}

constexpr const char* kIn = "in";

mspack_file* on_open(mspack_system* self, const char*, int) {
  auto* h = new Handle;
  h->system = reinterpret_cast<System*>(self);
  return &h->base;
}
void on_close(mspack_file* f) {
  delete &handle(f);
}
int on_read(mspack_file* f, void* buffer, int bytes) {
  Handle& h = handle(f);
  const ByteView rest = h.system->in.from(h.at);
  const size_t n = std::min(rest.size(), static_cast<size_t>(std::max(bytes, 0)));
  if (n != 0) std::memcpy(buffer, rest.data(), n);
  h.at += n;
  return static_cast<int>(n);
}
int on_write(mspack_file* f, void* buffer, int bytes) {
  System& s = *handle(f).system;
  const size_t n = static_cast<size_t>(std::max(bytes, 0));
  if (n > s.most - s.written) {
    s.too_much = true;
    return -1;
  }
  if (!(*s.sink)({static_cast<const u8*>(buffer), n})) {
    s.refused = true;
    return -1;
  }
  s.written += n;
  return bytes;
}
int on_seek(mspack_file* f, off_t offset, int mode) {
  Handle& h = handle(f);
  const i64 from = mode == MSPACK_SYS_SEEK_START ? 0
                   : mode == MSPACK_SYS_SEEK_CUR ? static_cast<i64>(h.at)
                                                 : static_cast<i64>(h.system->in.size());
  const i64 to = from + offset;
  if (to < 0 || static_cast<u64>(to) > h.system->in.size()) return 1;
  h.at = static_cast<u64>(to);
  return 0;
}
off_t on_tell(mspack_file* f) {
  return static_cast<off_t>(handle(f).at);
}
void on_message(mspack_file*, const char*, ...) {}
void* on_alloc(mspack_system*, size_t bytes) {
  return std::malloc(bytes);
}
void on_free(void* p) {
  std::free(p);
}
void on_copy(void* from, void* to, size_t bytes) {
  std::memcpy(to, from, bytes);
}

struct Decompressor {
  mscab_decompressor* cab = nullptr;
  mscabd_cabinet* open = nullptr;
  explicit Decompressor(mspack_system* system) : cab(mspack_create_cab_decompressor(system)) {}
  ~Decompressor() {
    if (open != nullptr) cab->close(cab, open);
    if (cab != nullptr) mspack_destroy_cab_decompressor(cab);
  }
};

}  // namespace

bool is_cabinet(ByteView bytes) {
  return bytes.starts_with("MSCF");
}

Result<u64> unpack_cabinet(ByteView bytes, u64 most, const Sink& sink) {
  System system;
  system.base = {on_open,    on_close, on_read, on_write, on_seek, on_tell,
                 on_message, on_alloc, on_free, on_copy,  nullptr};
  system.in = bytes;
  system.sink = &sink;
  system.most = most;
  Decompressor d(&system.base);
  if (d.cab == nullptr) return fail(Error{.why = Why::io, .detail = "libmspack cannot start"});
  d.open = d.cab->open(d.cab, kIn);
  if (d.open == nullptr || d.open->files == nullptr) return bad("damaged, or without a file in it");
  mscabd_file* file = d.open->files;
  // What lies before the file in its folder is unpacked too.
  if (u64{file->length} + file->offset > most)
    return fail(Error{.why = Why::limit, .type = "cabinet", .detail = "it unpacks to too much"});
  const int error = d.cab->extract(d.cab, file, "out");
  if (system.refused) return fail(Error{.why = Why::io, .type = "cabinet", .detail = "cannot write"});
  if (system.too_much)
    return fail(Error{.why = Why::limit, .type = "cabinet", .detail = "it unpacks to too much"});
  if (error != MSPACK_ERR_OK) return bad("damaged or truncated");
  if (system.written != file->length) return bad("the file in it has another size than it says");
  return system.written;
}

}  // namespace unhang::symbols
