#include "dump/container.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "dump/stream_decoder.h"

namespace unhang::dump {

namespace {

constexpr u64 kChunk = 1 << 20;

// Where packed bytes come from, a chunk at a time; an empty chunk is the end.
class Input {
 public:
  virtual ~Input() = default;
  virtual Result<ByteView> next() = 0;
  virtual u64 total() const { return 0; }
};

class FileInput final : public Input {
 public:
  FileInput(const File& file, u64 offset) : file_(file), start_(offset), at_(offset) {}
  Result<ByteView> next() override {
    const ByteView rest = file_.bytes().from(at_);
    const u64 n = std::min<u64>(rest.size(), kChunk);
    // Files are mapped for jumping about; this one is read from front to back.
    if ((at_ - start_) % (8 * kChunk) == 0) file_.will_read(at_, 16 * kChunk);
    at_ += n;
    return *rest.sub(0, n);
  }
  u64 total() const override { return file_.size() - start_; }

 private:
  const File& file_;
  u64 start_, at_;
};

class PipeInput final : public Input {
 public:
  explicit PipeInput(int fd) : fd_(fd), buffer_(kChunk) {}
  Result<ByteView> next() override {
    size_t have = 0;
    while (have < buffer_.size()) {
      const ssize_t n = read(fd_, buffer_.data() + have, buffer_.size() - have);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(Error{.why = Why::io, .detail = "cannot read the pipe", .os_error = errno});
      if (n == 0) break;
      have += static_cast<size_t>(n);
    }
    return ByteView(buffer_.data(), have);
  }

 private:
  int fd_;
  std::vector<u8> buffer_;
};

class Unpacker {
 public:
  Unpacker(Input& input, const OpenOptions& options, Spool spool)
      : input_(input), options_(options), spool_(std::move(spool)) {}

  Result<Unpacked> run(ByteView head, std::string name) {
    codec_ = find_codec(head);
    done_ = head.size();
    what_ = codec_ != nullptr ? fmt::format("unpacking {}", codec_->name) : "copying";
    TRY_VOID(codec_ != nullptr ? decode(head) : copy(head));
    if (spool_.size() == 0 && why_ != nullptr)
      return fail(Error{.why = Why::unsupported, .type = "compressed file", .detail = why_});
    if (spool_.size() == 0)
      return fail(Error{
          .why = Why::bad_file,
          .type = codec_ != nullptr ? "compressed file" : nullptr,
          .detail = codec_ != nullptr ? "truncated or damaged before any content" : "the input is empty"});
    Unpacked out{.how = codec_ != nullptr ? codec_->name : "", .gaps = std::move(gaps_)};
    out.file = TRY(spool_.finish(std::move(name)));
    return out;
  }

 private:
  Result<ByteView> next() {
    if (options_.progress && !options_.progress({what_, done_, input_.total()}))
      return fail(Error{.why = Why::limit, .type = "compressed file", .detail = "stopped"});
    const ByteView chunk = TRY(input_.next());
    done_ += chunk.size();
    return chunk;
  }

  Result<void> copy(ByteView chunk) {
    for (; !chunk.empty(); chunk = TRY(next())) TRY_VOID(spool_.write(chunk.span()));
    return {};
  }

  Result<void> decode(ByteView chunk) {
    const auto decoder = codec_->make();
    std::vector<u8> room(kChunk);
    while (!chunk.empty()) {
      if (decoder->complete() && spool_.size() != 0) {
        chunk = TRY(behind_stream(chunk));
        if (chunk.empty() || !continues(*codec_, chunk)) return {};
      }
      const auto step = decoder->step(chunk.span(), room);
      TRY_VOID(spool_.write(std::span(room).first(step.written)));
      if (step.damaged) {
        why_ = step.why;
        gap(why_ != nullptr ? why_ : "is damaged");
        return {};
      }
      chunk = chunk.from(step.read);
      if (chunk.empty())
        chunk = TRY(next());
      else if (step.read == 0 && step.written == 0) {
        gap("is damaged");
        return {};
      }
    }
    TRY_VOID(drain(*decoder, room));
    if (!decoder->complete()) gap("is truncated");
    return {};
  }

  // What stands behind a complete stream, without the zeros before it (stream padding, .xz file format 2.2;
  // a block device ends later than the file on it), and enough of it to tell what it is. Empty: nothing.
  Result<ByteView> behind_stream(ByteView chunk) {
    constexpr u64 kMostPadding = 64 << 20;
    constexpr size_t kTelling = 16;
    for (u64 padding = 0; padding < kMostPadding;) {
      const auto bytes = chunk.span();
      const auto zeros = static_cast<u64>(
          std::find_if(bytes.begin(), bytes.end(), [](u8 b) { return b != 0; }) - bytes.begin());
      padding += zeros;
      chunk = chunk.from(zeros);
      if (chunk.size() >= kTelling) return chunk;
      std::vector<u8> joined(chunk.span().begin(), chunk.span().end());
      const ByteView more = TRY(next());
      if (more.empty()) return chunk;
      joined.insert(joined.end(), more.span().begin(), more.span().end());
      joined_ = std::move(joined);
      chunk = ByteView(joined_.data(), joined_.size());
    }
    return ByteView();
  }

  // What a decoder still holds when there is no more input.
  Result<void> drain(StreamDecoder& decoder, std::vector<u8>& room) {
    while (!decoder.complete()) {
      const auto step = decoder.step({}, room);
      if (step.damaged || step.written == 0) return {};
      TRY_VOID(spool_.write(std::span(room).first(step.written)));
    }
    return {};
  }

  // what: a text that lives on.
  void gap(const char* what) {
    gaps_.push_back({"compressed file", hex(done_),
                     fmt::format("the {} stream {}: the first {} bytes of its content could be had",
                                 codec_->name, what, spool_.size())});
  }

  Input& input_;
  const OpenOptions& options_;
  Spool spool_;
  const Codec* codec_ = nullptr;
  std::string what_;
  std::vector<Gap> gaps_;
  u64 done_ = 0;
  std::vector<u8> joined_;  // the end of one chunk and the next one
  const char* why_ = nullptr;
};

}  // namespace

bool is_compressed(const File& file) {
  return find_codec(file.bytes()) != nullptr;
}

Result<Unpacked> unpack(std::shared_ptr<const File> file, u64 offset, const OpenOptions& options) {
  if (find_codec(file->bytes().from(offset)) == nullptr)
    return fail(
        Error{.why = Why::unsupported, .offset = offset, .detail = "not compressed in a way that is known"});
  FileInput input(*file, offset);
  const ByteView head = TRY(input.next());
  return Unpacker(input, options, TRY(Spool::create(options.spool))).run(head, file->path());
}

Result<Unpacked> unpack_pipe(int fd, const std::string& name, const OpenOptions& options) {
  PipeInput input(fd);
  const ByteView head = TRY(input.next());
  return Unpacker(input, options, TRY(Spool::create(options.spool))).run(head, name);
}

}  // namespace unhang::dump
